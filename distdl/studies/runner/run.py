"""Execution of a study's trials: several at a time, each once, by any number of runners that share the folder.

Runners communicate only through the trials' folders. The runner that holds a trial's lock runs it; a trial that is
neither completed nor locked is started by the next runner, from its checkpoint if it has one.
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
from distdl.core.run_files import RESULT
from distdl.launchers.slices import STOPPED, last_line
from distdl.runtime.cores import affinity
from distdl.studies.base import Trial
from distdl.studies.runner import process, trial_lock
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.process import HostShare
from distdl.studies.runner.trial_lock import LOG, Record

GRACE_S = 90.0
"""Seconds from SIGTERM to SIGKILL, for a trial to save; torchrun gives its ranks 30 s."""
POLL_S = 0.5
"""Seconds between checks of the trials of other runners."""
SAME_FAILURES = 3
"""Number of failures for the same reason after which no more trials are started."""
STOP_CODES = (*STOPPED, -signal.SIGTERM, -signal.SIGUSR2)
"""Exit codes of a trial that was stopped by a signal of this runner or of the scheduler."""


@dataclass(kw_only=True)
class Running:
    """A trial that this runner has started."""

    trial: Trial
    process: subprocess.Popen[bytes]
    lock: int
    share: HostShare
    record: Record
    started_s: float


def shares(jobs: int, cores: Sequence[int]) -> list[HostShare]:
    """Divide a host's cores into `jobs` shares; GPUs are assigned when a trial starts."""
    each = len(cores) // jobs
    if not each:  # more jobs than cores: leave the division to the scheduler of the kernel
        return [HostShare(cores=tuple(cores))] * jobs
    return [HostShare(cores=tuple(cores[index * each : (index + 1) * each])) for index in range(jobs)]


class Runner:
    """One process's part in a study.

    Args:
        jobs: number of trials that run at the same time.
        gpus: GPUs for the trials, one per rank; empty does not restrict them.
        leave: end as soon as no trial can be started, without waiting for the trials of other runners.
        watch: called with the runner whenever the state of a trial may have changed.
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
        self.states = {trial.name: trial_lock.read(folder.folder(trial)) for trial in folder.trials}
        """Record of each trial, by name."""
        self.running: dict[str, Running] = {}
        self.jobs = jobs
        self._shares = shares(jobs, affinity())
        self._gpus, self._has_gpus = list(gpus), bool(gpus)
        # A trial that failed earlier is retried, because the cause may be fixed; one that fails in this run is not.
        self._retry = {name: state.attempts for name, state in self.states.items() if state.status == "failed"}
        self._elsewhere: set[str] = set()
        self._stopped: set[str] = set()
        """Trials that were stopped, by this runner or on their own (--max-time): the next runner resumes them."""
        self._reasons: Counter[str] = Counter()
        self.given_up = ""
        """Reason for which SAME_FAILURES trials failed; no more are started then. Empty otherwise."""
        self._stop_time = 0.0
        if gpus and (large := [trial for trial in folder.trials if trial.ranks > len(gpus)]):
            raise UserError(f"trial {large[0].name} needs {large[0].ranks} GPUs, but --gpus lists {len(gpus)}")

    def run(self) -> int:
        """Run until all trials have ended. Returns 0, 1 if some failed, or 75 if stopped by a signal."""
        last_poll = 0.0
        with self._signals():
            while True:
                ended = self._reap()
                if self._stop_time:
                    if not self.running:
                        break
                    self._stop_all()
                elif ended or time.monotonic() > last_poll + POLL_S:
                    self._start_ready_trials()
                    last_poll = time.monotonic()
                    if self._is_finished():
                        break
                self._watch(self)
                time.sleep(0.05)
        self._watch(self)
        statuses = {state.status for state in self.states.values()}
        if self._stop_time or statuses & {"stopped"}:
            return EXIT_STOPPED
        return EXIT_FAILED if "failed" in statuses else EXIT_DONE

    @property
    def stopping(self) -> bool:
        return bool(self._stop_time)

    def status(self, trial: Trial) -> str:
        """State of a trial for display; a blocked trial is "not started"."""
        state = self.states[trial.name]
        if trial.name in self.running:
            return "running"
        if trial.name in self._elsewhere:
            return "running elsewhere"
        if state.status in ("waiting", "running", "stopped") and self._blocked(trial):
            return "not started"
        return "waiting" if state.status == "running" else state.status

    def _start_ready_trials(self) -> None:
        self._elsewhere.clear()
        for trial in self.folder.trials:
            if self._stop_time:
                return
            if trial.name in self.running or not self._refresh(trial):
                continue
            if not self._shares or (self._has_gpus and len(self._gpus) < trial.ranks):
                if trial_lock.is_locked(self.folder.folder(trial)):
                    self._elsewhere.add(trial.name)
            elif not self.given_up and all(self.states[name].status == "completed" for name in trial.after):
                self._begin(trial)

    def _refresh(self, trial: Trial) -> bool:
        """Read a trial's state again. Returns whether it still has to run, in this runner or another."""
        name, folder = trial.name, self.folder.folder(trial)
        if self.states[name].status == "completed":
            return False
        state = trial_lock.read(folder)
        if trial_lock.is_done(folder, trial, state) and state.status != "completed":
            state = dataclasses.replace(state, status="completed", exit_code=EXIT_DONE, reason="")
        self.states[name] = state
        return state.status != "completed" and name not in self._stopped and not self._failed_for_good(trial)

    def _failed_for_good(self, trial: Trial) -> bool:
        state = self.states[trial.name]
        return state.status == "failed" and state.attempts != self._retry.get(trial.name)

    def _blocked(self, trial: Trial) -> bool:
        """Whether a trial that it depends on has failed or is blocked."""
        trials = {each.name: each for each in self.folder.trials}
        return any(self._failed_for_good(trials[name]) or self._blocked(trials[name]) for name in trial.after)

    def _begin(self, trial: Trial) -> None:
        folder = self.folder.folder(trial)
        lock = trial_lock.lock(folder)
        if lock is None:
            self._elsewhere.add(trial.name)
            return
        if not self._refresh(trial):  # another runner has just completed it
            os.close(lock)
            return
        trial_lock.check_same(folder, trial)
        process.clear(folder)
        record = self.states[trial.name]
        if record.status == "failed":
            (folder / LOG).unlink(missing_ok=True)  # an old line must not be reported as the reason of a new failure
        share = self._shares.pop(0)
        if self._has_gpus:
            share = dataclasses.replace(share, gpus=tuple(self._gpus[: trial.ranks]))
            del self._gpus[: trial.ranks]
        record = dataclasses.replace(record, attempts=record.attempts + 1)
        resources = {"host": trial_lock.host(), "given_cores": len(process.cores_of(trial, share))}
        self._write_record(trial, record, status="running", began=time.time(), exit_code=None, reason="", **resources)
        started = process.start(trial, folder, share, lock)
        self.running[trial.name] = Running(
            trial=trial, process=started, lock=lock, share=share, record=record, started_s=time.monotonic()
        )

    def _reap(self) -> bool:
        """Record the results of this runner's trials that have ended. Returns whether any has ended."""
        ended = [each for each in self.running.values() if each.process.poll() is not None]
        for each in ended:
            folder, code = self.folder.folder(each.trial), each.process.returncode
            process.clear(folder)
            spent = each.record.seconds + time.monotonic() - each.started_s
            begun = dataclasses.replace(self.states[each.trial.name], seconds=round(spent, 3), exit_code=code)
            missing = _lacks_result(folder) if code == EXIT_DONE else ""
            if code == EXIT_DONE and not missing:
                self._write_record(each.trial, begun, status="completed")
            elif code in STOP_CODES or each.trial.name in self._stopped:  # torchrun exits with 143 after SIGTERM
                self._stopped.add(each.trial.name)
                self._write_record(each.trial, begun, status="stopped")
            else:
                reason = missing if code == EXIT_DONE else why(code, folder / LOG)
                self._write_record(each.trial, begun, status="failed", reason=reason)
                if code >= 0:  # a signal that killed one trial is no evidence about the next
                    self._count(reason.replace(str(folder), "").replace(each.trial.name, ""), reason)
            os.close(each.lock)
            del self.running[each.trial.name]
            self._gpus.extend(each.share.gpus)
            self._shares.append(dataclasses.replace(each.share, gpus=()))
        return bool(ended)

    def _count(self, kind: str, reason: str) -> None:
        self._reasons[kind] += 1
        if self._reasons[kind] >= SAME_FAILURES:
            self.given_up = reason

    def _write_record(self, trial: Trial, record: Record, **changes: object) -> None:
        self.states[trial.name] = dataclasses.replace(record, **changes)
        trial_lock.write(self.folder.folder(trial), trial, self.states[trial.name])

    def _is_finished(self) -> bool:
        if self.given_up:
            return not self.running
        pending = [trial for trial in self.folder.trials if self._to_do(trial)]
        if self._leave and not self.running:
            return all(trial.name in self._elsewhere for trial in pending)
        return not pending

    def _to_do(self, trial: Trial) -> bool:
        state = self.states[trial.name]
        if trial.name in self.running:
            return True
        if state.status == "completed" or self._failed_for_good(trial) or trial.name in self._stopped:
            return False
        return not self._blocked(trial) and not any(name in self._stopped for name in trial.after)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Context in which a signal stops the trials with SIGTERM, and a second Ctrl-C kills them."""

        def receive(number: int, frame: FrameType | None) -> None:
            if self._stop_time and number == signal.SIGINT:
                self._stop_time = -GRACE_S
                return
            self._stop_time = self._stop_time or time.monotonic()

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
        previous = {number: signal.signal(number, receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            for each in self.running.values():
                each.process.kill()
                process.clear(self.folder.folder(each.trial))

    def _stop_all(self) -> None:
        """Send SIGTERM to each trial once, and SIGKILL after the grace period."""
        for name, each in self.running.items():
            if name not in self._stopped:
                self._stopped.add(name)
                process.terminate(each.process)
            elif time.monotonic() > self._stop_time + GRACE_S:
                each.process.kill()


def _lacks_result(folder: Path) -> str:
    """Reason for the failure of a trial that exited with 0; empty if it has a result."""
    try:
        return "" if trial_lock.result(folder) else f"exit code 0, but there is no {RESULT}"
    except UserError as error:
        return str(error)


def why(code: int, log: Path) -> str:
    """Reason of a failure, in one line."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return last_line(log) or f"exit code {code} without output"
