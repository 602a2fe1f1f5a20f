"""Doing a study's trials: as many at a time as there are places, each once, however many runners share the folder.

Runners know of each other by the trials' folders alone. Whoever holds a trial's lock does it; whoever finds one neither
completed nor locked takes it up, from its checkpoint where there is one.
"""

import dataclasses
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from distdl.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, UserError
from distdl.core.rundir import RESULT
from distdl.launchers.slices import STOPPED, last_line
from distdl.runtime.cores import affinity
from distdl.studies.base import Trial
from distdl.studies.runner import process
from distdl.studies.runner import trial_lock as claim
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.process import Share
from distdl.studies.runner.trial_lock import LOG, Record

GRACE_S = 90.0
"""How long a trial that was told to stop has to save; torchrun gives its ranks 30 s of them."""
LOOK_EVERY_S = 0.5
"""Time between looks at the trials of other runners."""
SAME_FAILURES = 3
"""Failures with an equal reason after which no more trials are begun."""
TOLD = (*STOPPED, -signal.SIGTERM, -signal.SIGUSR2)
"""Exit codes of a trial that was told to stop, by us or by the scheduler."""


@dataclass(kw_only=True)
class Running:
    """A trial of ours, begun."""

    trial: Trial
    process: subprocess.Popen[bytes]
    lock: int
    share: Share
    before: Record
    since: float


def shares(jobs: int, cores: Sequence[int]) -> list[Share]:
    """Cut a host's cores into `jobs` places; GPUs are given out when a trial begins."""
    each = len(cores) // jobs
    if not each:  # more places than cores: the kernel does better than any division
        return [Share(cores=tuple(cores))] * jobs
    return [Share(cores=tuple(cores[place * each : (place + 1) * each])) for place in range(jobs)]


class Runner:
    """One process's part in a study.

    Args:
        jobs: trials at the same time.
        gpus: that trials take, one a rank; empty leaves the choice to them.
        leave: end as soon as nothing is left to begin, without waiting for the trials of other runners.
        watch: called with the state of all trials whenever it may have changed, and about twice a second.
    """

    def __init__(
        self,
        folder: StudyFolder,
        *,
        jobs: int = 1,
        gpus: Sequence[str] = (),
        leave: bool = False,
        watch: "Callable[[Runner], None]" = lambda runner: None,
    ) -> None:
        self.folder, self._leave, self._watch = folder, leave, watch
        self.states = {trial.name: claim.read(folder.folder(trial)) for trial in folder.trials}
        """What is known of every trial, by name."""
        self.running: dict[str, Running] = {}
        self.jobs = jobs
        self._places = shares(jobs, affinity())
        self._gpus, self._has_gpus = list(gpus), bool(gpus)
        # A failure from before this start is tried again, as the person may have mended it; a later one is not.
        self._retry = {name: state.attempts for name, state in self.states.items() if state.status == "failed"}
        self._elsewhere: set[str] = set()
        self._stopped: set[str] = set()
        """Ours that stopped in order without a word from us (--max-time): they are for the next runner."""
        self._reasons: Counter[str] = Counter()
        self.given_up = ""
        """The reason of SAME_FAILURES trials: no more are begun."""
        self._told = 0.0
        if gpus and (large := [trial for trial in folder.trials if trial.ranks > len(gpus)]):
            raise UserError(f"trial {large[0].name} needs {large[0].ranks} GPUs, and --gpus names {len(gpus)}")

    def run(self) -> int:
        """Until all trials are over. Returns 0, 1 if some failed, or 75 if told to stop before the end."""
        looked = 0.0
        with self._signals():
            while True:
                ended = self._reap()
                if self._told:
                    if not self.running:
                        break
                    self._stop_all()
                elif ended or time.monotonic() > looked + LOOK_EVERY_S:
                    self._begin_what_can()
                    looked = time.monotonic()
                    if self._over():
                        break
                self._watch(self)
                time.sleep(0.05)
        self._watch(self)
        statuses = {state.status for state in self.states.values()}
        if self._told or statuses & {"stopped"}:
            return EXIT_STOPPED
        return EXIT_FAILED if "failed" in statuses else EXIT_DONE

    @property
    def stopping(self) -> bool:
        return bool(self._told)

    def status(self, trial: Trial) -> str:
        """Of a trial, for a person: what blocks it too."""
        state = self.states[trial.name]
        if trial.name in self.running:
            return "running"
        if trial.name in self._elsewhere:
            return "running elsewhere"
        if state.status in ("waiting", "running", "stopped") and self._blocked(trial):
            return "not begun"
        return "waiting" if state.status == "running" else state.status

    def _begin_what_can(self) -> None:
        self._elsewhere.clear()
        for trial in self.folder.trials:
            if self._told:
                return
            if trial.name in self.running or not self._look(trial):
                continue
            if not self._places or (self._has_gpus and len(self._gpus) < trial.ranks):
                if claim.taken(self.folder.folder(trial)):
                    self._elsewhere.add(trial.name)
            elif not self.given_up and all(self.states[name].status == "completed" for name in trial.after):
                self._begin(trial)

    def _look(self, trial: Trial) -> bool:
        """Read a trial's state anew. Returns whether it still has to be done, by whomever."""
        name, folder = trial.name, self.folder.folder(trial)
        if self.states[name].status == "completed":
            return False
        state = claim.read(folder)
        if claim.is_done(folder, trial, state) and state.status != "completed":
            state = dataclasses.replace(state, status="completed", exit_code=EXIT_DONE, reason="")
        self.states[name] = state
        return state.status != "completed" and name not in self._stopped and not self._failed_for_good(trial)

    def _failed_for_good(self, trial: Trial) -> bool:
        state = self.states[trial.name]
        return state.status == "failed" and state.attempts != self._retry.get(trial.name)

    def _blocked(self, trial: Trial) -> bool:
        """Whether one that it waits for has failed, or waits for one that has."""
        trials = {one.name: one for one in self.folder.trials}
        return any(self._failed_for_good(trials[name]) or self._blocked(trials[name]) for name in trial.after)

    def _begin(self, trial: Trial) -> None:
        folder = self.folder.folder(trial)
        lock = claim.lock(folder)
        if lock is None:
            self._elsewhere.add(trial.name)
            return
        if not self._look(trial):  # another has just done it
            os.close(lock)
            return
        claim.check_same(folder, trial)
        process.clear(folder)
        before = self.states[trial.name]
        if before.status == "failed":
            (folder / LOG).unlink(missing_ok=True)  # so that a new failure is not told by an old line
        share = self._places.pop(0)
        if self._has_gpus:
            share = dataclasses.replace(share, gpus=tuple(self._gpus[: trial.ranks]))
            del self._gpus[: trial.ranks]
        before = dataclasses.replace(before, attempts=before.attempts + 1)
        given = {"host": claim.host(), "given_cores": len(process.cores_of(trial, share))}
        self._note(trial, before, status="running", began=time.time(), exit_code=None, reason="", **given)
        started = process.start(trial, folder, share, lock)
        self.running[trial.name] = Running(
            trial=trial, process=started, lock=lock, share=share, before=before, since=time.monotonic()
        )

    def _reap(self) -> bool:
        """Write down how those of ours ended that did. Returns whether any did."""
        ended = [one for one in self.running.values() if one.process.poll() is not None]
        for one in ended:
            folder, code = self.folder.folder(one.trial), one.process.returncode
            process.clear(folder)
            spent = one.before.seconds + time.monotonic() - one.since
            begun = dataclasses.replace(self.states[one.trial.name], seconds=round(spent, 3), exit_code=code)
            if code == EXIT_DONE and not (lack := _lacks_result(folder)):
                self._note(one.trial, begun, status="completed")
            elif code in TOLD or one.trial.name in self._stopped:  # torchrun, told to stop, exits with 1
                self._stopped.add(one.trial.name)
                self._note(one.trial, begun, status="stopped")
            else:
                reason = lack if code == EXIT_DONE else why(code, folder / LOG)
                self._note(one.trial, begun, status="failed", reason=reason)
                if code >= 0:  # what killed one trial says nothing of the next
                    self._count(reason.replace(str(folder), "").replace(one.trial.name, ""), reason)
            os.close(one.lock)
            del self.running[one.trial.name]
            self._gpus.extend(one.share.gpus)
            self._places.append(dataclasses.replace(one.share, gpus=()))
        return bool(ended)

    def _count(self, kind: str, reason: str) -> None:
        self._reasons[kind] += 1
        if self._reasons[kind] >= SAME_FAILURES:
            self.given_up = reason

    def _note(self, trial: Trial, record: Record, **changes: object) -> None:
        self.states[trial.name] = dataclasses.replace(record, **changes)
        claim.write(self.folder.folder(trial), trial, self.states[trial.name])

    def _over(self) -> bool:
        if self.given_up:
            return not self.running
        left = [trial for trial in self.folder.trials if self._to_do(trial)]
        if self._leave and not self.running:
            return all(trial.name in self._elsewhere for trial in left)
        return not left

    def _to_do(self, trial: Trial) -> bool:
        state = self.states[trial.name]
        if trial.name in self.running:
            return True
        if state.status == "completed" or self._failed_for_good(trial) or trial.name in self._stopped:
            return False
        return not self._blocked(trial) and not any(name in self._stopped for name in trial.after)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """A signal tells our trials to stop in order; a second Ctrl-C means now."""

        def receive(number: int, frame: FrameType | None) -> None:
            if self._told and number == signal.SIGINT:
                self._told = -GRACE_S
                return
            self._told = self._told or time.monotonic()

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
        previous = {number: signal.signal(number, receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            for one in self.running.values():
                one.process.kill()
                process.clear(self.folder.folder(one.trial))

    def _stop_all(self) -> None:
        """Tell each once; those that do not end of themselves are ended."""
        for name, one in self.running.items():
            if name not in self._stopped:
                self._stopped.add(name)
                process.tell(one.process)
            elif time.monotonic() > self._told + GRACE_S:
                one.process.kill()


def _lacks_result(folder: Path) -> str:
    """Why a trial that exited with 0 has failed all the same; empty if it has a result."""
    try:
        return "" if claim.result(folder) else f"exit code 0, but there is no {RESULT}"
    except UserError as error:
        return str(error)


def why(code: int, log: Path) -> str:
    """Of a failure, in one line."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return last_line(log) or f"exit code {code}, and nothing said"
