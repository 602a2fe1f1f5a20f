"""One training started, killed at a random moment, and resumed, as real processes of its launcher."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from distdl.core.checkpoints import find
from distdl.core.errors import Failure
from distdl.core.profiles import Recipe
from distdl.launchers import horovodrun, torchrun
from distdl.launchers.job import Job, arguments, bin_folder
from distdl.studies.runner.process import Share, clear, environment
from distdl.verify.samples import FOLDER, LEG, Leg, read_legs

LIMIT_S = 600.0
"""How long a start may take to its end, or to the step at which it is killed."""
TRIES = 5
"""Starts that end before they are killed: the kill is then aimed at an earlier step."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training in a folder of its own. Its samples are logged beside its run folder."""

    recipe: Recipe
    """The training, without out and resume."""
    strategy: str
    folder: Path
    servers: int = 0
    """Parameter servers, in addition to the ranks that train."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.folder / "log.txt"

    def start(self, ranks: int) -> subprocess.Popen[bytes]:
        """Start, or resume, on this number of ranks. The launcher's process is returned; it leads a session."""
        self.folder.mkdir(parents=True, exist_ok=True)
        samples = self.folder / "samples"
        leg = len({file.name.split("-")[1] for file in samples.glob("leg-*")})
        argv = arguments(self.recipe.updated({"out": str(self.run), "resume": "auto"}))
        folder = bin_folder(near=False)
        job = Job(argv=argv, module="distdl.cli.verify_rank", nproc=ranks + self.servers, bin_dir=folder)
        if self.strategy == "horovod":
            command = horovodrun.commands(job)[0].argv
        else:
            command = torchrun.command(job).argv if job.nproc > 1 else job.python
        env = environment(os.environ, self.folder, Share()) | {FOLDER: str(samples), LEG: str(leg)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def finish(self, ranks: int) -> Path:
        """Train to the end. Returns the last checkpoint.

        Raises:
            Failure: if the training fails; the message has its last line.
        """
        process = self.start(ranks)
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"the training did not end within {LIMIT_S:.0f} s: see {self.log}") from None
        finally:
            clear(self.folder)
        if code:
            raise Failure(f"the training failed with exit code {code}: {self.last_line()} (see {self.log})")
        return find(self.run, warn=lambda text: None)

    def last_line(self) -> str:
        """The last line that the training has printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
        return f"it printed nothing; its disk has {shutil.disk_usage(self.folder).free // 2**20:,} MiB free"

    def kill(self, ranks: int, after: int, rng: random.Random, *, one: bool) -> Leg | None:
        """Train until a step after `after`, then SIGKILL at a random moment of a step.

        Args:
            one: kill a single rank, chosen at random, and let the launcher end the others; else all processes at once.
        Returns:
            what was trained, or None where the training ended before it could be killed.
        Raises:
            Failure: if it ends with an error before, or does not reach the step.
        """
        begun = len(self.legs())
        process = self.start(ranks)
        try:
            step_s = self._wait_for(process, after, begun)
            if step_s is None:
                return None
            pids = [rng.choice(self.legs()[-1].pids)] if one else [process.pid, *_descendants(process.pid)]
            time.sleep(rng.uniform(0, step_s))
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    os.kill(pid, signal.SIGKILL)
            process.wait(LIMIT_S)
        finally:
            clear(self.folder)
        return self.legs()[-1]

    def _wait_for(self, process: subprocess.Popen[bytes], step: int, begun: int) -> float | None:
        """Wait until this start has trained `step`. Returns the seconds of a step; None where it ended before."""
        until = time.monotonic() + LIMIT_S
        first: tuple[int, float] | None = None
        while time.monotonic() < until:
            if process.poll() is not None:
                if process.returncode:
                    raise Failure(f"the training failed before it was killed: {self.last_line()} (see {self.log})")
                return None
            legs = self.legs()
            if len(legs) > begun:
                last, now = legs[-1].last, time.monotonic()
                first = first or (last, now)
                if last >= step:
                    return (now - first[1]) / max(last - first[0], 1)
            time.sleep(0.001)
        raise Failure(f"the training did not reach step {step} within {LIMIT_S:.0f} s: see {self.log}")

    def legs(self) -> list[Leg]:
        """What was trained so far, by start."""
        return read_legs(self.folder / "samples")


def _descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def kill_on_the_way(training: Training, ranks: int, steps: int, rng: random.Random, *, one: bool) -> Leg:
    """Kill a training of `steps` steps at a random one, aiming earlier each time that it ends before.

    Raises:
        Failure: if it cannot be killed before it ends.
    """
    step = rng.randrange(1, max(steps, 2))
    for _ in range(TRIES):
        leg = training.kill(ranks, step, rng, one=one)
        if leg is not None and leg.last < steps:
            return leg
        shutil.rmtree(training.folder)
        step = max(step // 2, 1)
    raise Failure(f"the training ends before it can be killed: ask for more than {steps} --steps")
