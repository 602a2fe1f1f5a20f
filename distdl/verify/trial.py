"""Trainings that are started with their launcher, killed at a random moment, and resumed."""

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
from distdl.core.opening import open_to_append
from distdl.core.profiles import Recipe
from distdl.launchers.commands import agent, horovodrun
from distdl.launchers.job import Job, arguments, bin_folder
from distdl.studies.runner.process import HostShare, clear, trial_environment
from distdl.verify.samples import FOLDER, LEG, Leg, read_legs

LIMIT_S = 600.0
"""Maximum seconds from a start to its end, or to the step of the kill."""
TRIES = 5
"""Maximum number of trainings that end before the kill; each next one is killed at an earlier step."""


@dataclass(frozen=True, kw_only=True)
class TrainingUnderTest:
    """A training in its own folder, which contains its run folder and the log of its samples."""

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
        """Output of the processes."""
        return self.folder / "log.txt"

    def start(self, ranks: int) -> subprocess.Popen[bytes]:
        """Start or resume on this number of ranks. Returns the process of the launcher, which leads a session."""
        self.folder.mkdir(parents=True, exist_ok=True)
        samples = self.folder / "samples"
        leg = len({file.name.split("-")[1] for file in samples.glob("leg-*")})
        argv = arguments(self.recipe.updated({"out": str(self.run), "resume": "auto"}))
        folder = bin_folder(near=False)
        job = Job(argv=argv, module="distdl.cli.verify_rank", nproc=ranks + self.servers, bin_dir=folder)
        if self.strategy == "horovod":
            command = horovodrun(job)[0].argv
        else:
            command = agent(job).argv if job.nproc > 1 else job.python
        env = trial_environment(os.environ, self.folder, HostShare()) | {FOLDER: str(samples), LEG: str(leg)}
        with open_to_append(self.log) as log:
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
        """The last line of the output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
        return f"it printed nothing; its disk has {shutil.disk_usage(self.folder).free // 2**20:,} MiB free"

    def kill(self, ranks: int, last_step: int, rng: random.Random, *, one_rank: bool) -> Leg | None:
        """Train until a step after `last_step`, then SIGKILL at a random moment of a step.

        Args:
            one_rank: kill one random rank, and let the launcher end the others; otherwise kill all processes at once.
        Returns:
            The trained steps; None if the training ended before the kill.
        Raises:
            Failure: if the training fails before, or does not reach the step.
        """
        previous_legs = len(self.legs())
        process = self.start(ranks)
        try:
            step_s = self._wait_for(process, last_step, previous_legs)
            if step_s is None:
                return None
            pids = [rng.choice(self.legs()[-1].pids)] if one_rank else [process.pid, *_descendants(process.pid)]
            time.sleep(rng.uniform(0, step_s))
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # it has already ended
                    os.kill(pid, signal.SIGKILL)
            process.wait(LIMIT_S)
        finally:
            clear(self.folder)
        return self.legs()[-1]

    def _wait_for(self, process: subprocess.Popen[bytes], step: int, previous_legs: int) -> float | None:
        """Wait until this start has trained `step`. Returns the seconds per step; None if it ended before."""
        deadline = time.monotonic() + LIMIT_S
        first: tuple[int, float] | None = None
        while time.monotonic() < deadline:
            if process.poll() is not None:
                if process.returncode:
                    raise Failure(f"the training failed before it was killed: {self.last_line()} (see {self.log})")
                return None
            legs = self.legs()
            if len(legs) > previous_legs:
                last, now = legs[-1].last, time.monotonic()
                first = first or (last, now)
                if last >= step:
                    return (now - first[1]) / max(last - first[0], 1)
            time.sleep(0.001)
        raise Failure(f"the training did not reach step {step} within {LIMIT_S:.0f} s: see {self.log}")

    def legs(self) -> list[Leg]:
        """The legs trained so far."""
        return read_legs(self.folder / "samples")


def _descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def kill_during_training(
    training: TrainingUnderTest, ranks: int, steps: int, rng: random.Random, *, one_rank: bool
) -> Leg:
    """Kill a training of `steps` steps at a random step; if it ends before the kill, try again at an earlier step.

    Raises:
        Failure: if it cannot be killed before it ends.
    """
    step = rng.randrange(1, max(steps, 2))
    for _ in range(TRIES):
        leg = training.kill(ranks, step, rng, one_rank=one_rank)
        if leg is not None and leg.last < steps:
            return leg
        shutil.rmtree(training.folder)
        step = max(step // 2, 1)
    raise Failure(f"the training ends before it can be killed: use more than {steps} --steps")
