"""A training divided into slices, each one run of a Slurm job: begin and end of a slice; whether another one follows.

A batch script calls `begin` before the training and `end` after it:

    seconds=$(distdl slurm begin --queued TIME -- ARGUMENTS) || exit 0
    srun python -P -m distdl.train ARGUMENTS --max-time "$seconds"
    distdl slurm end --code $? --state STATE/REASON -- ARGUMENTS && scontrol requeue ...

Both append a row to slices.jsonl in the run folder, and `end` writes totals to result.json. Neither imports torch. A
kill is possible at any moment: a damaged line of that file, or a damaged checkpoint, does not end the chain of slices.
"""

import importlib
import itertools
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from distdl.core import runlock
from distdl.core.config import Config, SlurmConfig
from distdl.core.errors import EXIT_DONE, EXIT_STOPPED, EXIT_USER, UserError
from distdl.core.files import write_json
from distdl.core.manifest import Progress, damaged, published
from distdl.core.renamed import warn_old_module
from distdl.core.result import read_result
from distdl.core.run_files import CHECKPOINTS, METRICS, RESULT, in_use
from distdl.core.text import printable
from distdl.launchers.ledger import LEDGER, Begin, End, Ending, Slice, append, finished_slices, load, since_first
from distdl.runtime.launch_env import slurm_job

EXIT_OVER = 3
"""No further slice."""
STOPPED = (EXIT_STOPPED, 128 + signal.SIGUSR2, 128 + signal.SIGTERM)
"""Exit codes of a training that was asked to stop: it stopped cleanly, or ended before its first step."""
LINE_LENGTH = 300
"""Maximum number of characters of the line that states why a slice failed."""


@dataclass(frozen=True, kw_only=True)
class SliceTotals:
    """Totals over the slices of a training: "slurm" of result.json."""

    slices: int
    restarts: int
    waited_s: float
    compute_s: float
    status: str
    """requeued, or the reason of the end: completed, taken, refused, lifetime, crash-loop."""
    reason: str


def ended_as(code: int, state: str) -> Ending:
    """Classify the end of a slice by the training's exit code and the job's "STATE/REASON" (squeue's %T/%r) after it.

    A job that scancel ended is COMPLETING while its batch script still runs, and Slurm would requeue it on request:
    only a job that is RUNNING, or that reached its time limit, is still wanted.
    """
    if code == EXIT_DONE:
        return "completed"
    if state.split("/", maxsplit=1)[0] != "RUNNING" and not state.endswith("/TimeLimit"):
        return "taken"
    if code in STOPPED:
        return "stopped"
    return "refused" if code == EXIT_USER else "failed"


def totals(slices: Sequence[Slice], config: SlurmConfig, why: str = "") -> SliceTotals:
    """Add up the slices, and decide whether another one follows.

    Args:
        slices: at least one.
        why: error message of the last slice.
    """
    compute_s, last = sum(each.compute_s for each in slices), slices[-1]
    # A training that the user submits again has been corrected: only failures of the same job count.
    tail = itertools.takewhile(lambda each: each.fruitless and each.job == last.job, reversed(slices))
    fruitless = sum(1 for _ in tail)
    status, reason = "requeued", f"{compute_s:.0f} of {config.total_lifetime_s:.0f} s used"
    if last.ended == "completed":
        status, reason = "completed", "trained to the end"
    elif last.ended == "taken":
        status, reason = "taken", "Slurm ended the job (scancel or preemption): it is not requeued"
    elif last.ended == "refused":
        status, reason = "refused", f"invalid configuration, which a restart does not change: {why}"
    elif compute_s >= config.total_lifetime_s:
        status, reason = "lifetime", f"{compute_s:.0f} s of compute time reach slurm.total_lifetime_s"
    elif fruitless > config.max_restarts:
        reason = f"failed {fruitless} times in a row without a new checkpoint (at step {last.last_step}): {why}"
        status = "crash-loop"
    return SliceTotals(
        slices=len(slices),
        restarts=len(slices) - 1,
        waited_s=sum(each.waited_s for each in slices),
        compute_s=compute_s,
        status=status,
        reason=reason,
    )


def begin(run: Path, config: Config, *, waited_s: float, now: float) -> int:
    """Write the row of a slice that begins. Returns the seconds after which the training must stop; 0: no limit.

    Raises:
        Over: if no further slice may begin.
        UserError: if another training runs in the folder.
    """
    if (process := runlock.holder(run)) is not None:
        raise in_use(run, process)
    ledger, (step, epoch) = run / LEDGER, newest(run)
    rows, _ = load(ledger)
    if rows and isinstance(rows[-1], Begin):
        # A killed node wrote no end. The newest change in the run folder is the best estimate of it.
        changes = [
            file.stat().st_mtime for file in (run / METRICS, *run.glob(f"{CHECKPOINTS}/step-*")) if file.exists()
        ]
        at = max([changed for changed in changes if changed < now] + [rows[-1].at])
        lost = End(time_s=since_first(rows, at), step=step, epoch=epoch, at=at, ended="lost", code=None)
        rows.append(append(ledger, lost))
    slices, job = finished_slices(rows), slurm_job()
    if slices:
        total = totals(slices, config.slurm, why="its end was not recorded")
        if total.status in ("completed", "lifetime") or (total.status == "crash-loop" and slices[-1].job == job.id):
            _sum_up(run, total)
            raise Over(f"no further slice: {total.reason}")
    place = {"time_s": since_first(rows, now), "step": step, "epoch": epoch, "at": now}
    append(ledger, Begin(**place, waited_s=waited_s, job=job.id, restart=job.restarts))
    remaining = config.slurm.total_lifetime_s - sum(each.compute_s for each in slices)
    limits = [limit for limit in (config.max_time, remaining if remaining < config.slurm.slice_s else 0.0) if limit]
    return math.ceil(min(limits)) if limits else 0


def end(run: Path, config: Config, *, code: int, state: str, why: str, now: float) -> SliceTotals:
    """Write the row of a slice that ends, and the totals of all slices to result.json.

    Raises:
        UserError: if no slice has begun.
    """
    ledger, (step, epoch) = run / LEDGER, newest(run)
    rows, bad = load(ledger)
    place = {"time_s": since_first(rows, now), "step": step, "epoch": epoch, "at": now}
    if not rows or not isinstance(rows[-1], Begin):
        if not bad:
            raise UserError(f"no slice was started in {ledger}: run 'distdl slurm begin' before the training")
        # The row of its begin is damaged: the duration of the slice is unknown.
        rows.append(append(ledger, Begin(**place, waited_s=0.0, job=slurm_job().id, restart=0)))
    rows.append(append(ledger, End(**place, ended=ended_as(code, state), code=code, why=why)))
    total = totals(finished_slices(rows), config.slurm, f"exit code {code}" + (f": {why}" if why else ""))
    _sum_up(run, total)
    return total


class Over(Exception):
    """No further slice may begin; the message states why."""


def newest(run: Path) -> tuple[int, int]:
    """Step and epoch of the newest whole checkpoint; zeros before the first."""
    for folder in reversed(published(run / CHECKPOINTS)):
        try:
            if damaged(folder) is None:
                progress = Progress.of(folder)
                return progress.step, progress.epoch
        except (OSError, UserError):  # a running training has removed it, or its manifest is damaged
            continue
    return 0, 0


def last_line(log: Path) -> str:
    """The last line of a job's log that names an error, else its last line."""
    if not log.is_file():
        return ""
    with log.open("rb") as source:
        source.seek(max(log.stat().st_size - 65536, 0))
        lines = [line.strip() for line in source.read().decode(errors="replace").splitlines() if line.strip()]
    own_lines = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    errors = [line for line in own_lines if "error:" in line.lower() or "exception:" in line.lower()]
    return printable(next(iter((errors or own_lines)[-1:]), "")[:LINE_LENGTH])


def _sum_up(run: Path, total: SliceTotals) -> None:
    try:
        result = read_result(run)
    except UserError:  # damaged: none of it can be used
        result = {}
    write_json(run / RESULT, {"status": "failed", **result, "slurm": asdict(total)})


if __name__ == "__main__":
    # Jobs that version 0.1 submitted requeue themselves with this command.
    warn_old_module("python -m distdl.launchers.slices")
    sys.exit(importlib.import_module("distdl.cli.__main__").main(["slurm", *sys.argv[1:]]))
