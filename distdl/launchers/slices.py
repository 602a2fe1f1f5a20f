"""A training divided into slices, each one run of a Slurm job: the ledger of slices, and whether another one follows.

A batch script calls `begin` before the training and `end` after it:

    seconds=$(distdl slurm begin --queued TIME -- ARGUMENTS) || exit 0
    srun python -m distdl.train ARGUMENTS --max-time "$seconds"
    distdl slurm end --code $? --state STATE/REASON -- ARGUMENTS && scontrol requeue ...

Both append a row to slices.jsonl in the run folder, and `end` writes totals to result.json. Neither imports torch. A
kill is possible at any moment: a damaged line of that file, or a damaged checkpoint, does not end the chain of slices.
"""

import importlib
import itertools
import json
import math
import signal
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from distdl.core import runlock
from distdl.core.config import Config, Count, Finite, Rate, SlurmConfig
from distdl.core.errors import EXIT_DONE, EXIT_STOPPED, EXIT_USER, UserError
from distdl.core.files import append_rows, parse_row, write_json
from distdl.core.manifest import Progress, damaged, published
from distdl.core.result import read_result
from distdl.core.run_files import CHECKPOINTS, METRICS, RESULT, in_use
from distdl.core.text import printable
from distdl.core.validation import check
from distdl.runtime.launch_env import slurm_job

LEDGER = "slices.jsonl"
EXIT_OVER = 3
"""No further slice."""
STOPPED = (EXIT_STOPPED, 128 + signal.SIGUSR2, 128 + signal.SIGTERM)
"""Exit codes of a training that was asked to stop: it stopped in order, or ended before its first step."""
LINE_LENGTH = 300
"""Maximum number of characters of the line that states why a slice failed."""


Ending = Literal["completed", "stopped", "failed", "refused", "taken", "lost"]
"""End of a slice: taken is by Slurm (scancel, preemption), lost is without a record."""


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A row of the ledger."""

    time_s: Finite
    """Seconds since the begin of the first slice."""
    step: Count
    """Step of the newest checkpoint."""
    epoch: Count
    at: Rate
    """Unix time."""


@dataclass(frozen=True, kw_only=True)
class Begin(LedgerRow):
    """The row that a slice writes when it begins."""

    kind: Literal["begin"] = "begin"
    waited_s: Rate
    job: str
    restart: Count


@dataclass(frozen=True, kw_only=True)
class End(LedgerRow):
    """The row that a slice writes when it ends."""

    kind: Literal["end"] = "end"
    ended: Ending
    code: int | None
    """Exit code of the training; None if unknown."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice, from its two rows of the ledger."""

    job: str
    """Slurm's job id; a training that is submitted again has another."""
    waited_s: float
    """Time in the queue, since the job was submitted or requeued."""
    compute_s: float
    """Wall time from begin to end; not multiplied by the number of nodes."""
    first_step: int
    """Step of the newest checkpoint at the begin."""
    last_step: int
    """Step of the newest checkpoint at the end."""
    ended: Ending

    @property
    def fruitless(self) -> bool:
        """Whether it failed without a new checkpoint."""
        return self.ended in ("failed", "lost") and self.last_step <= self.first_step


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


def read(rows: Iterable[LedgerRow]) -> list[Slice]:
    """Finished slices, oldest first, from the rows of a ledger."""
    finished, begun = [], None
    for row in rows:
        if isinstance(row, Begin):
            begun = row
        elif begun is not None and isinstance(row, End):
            finished.append(
                Slice(
                    job=begun.job,
                    waited_s=begun.waited_s,
                    compute_s=max(row.at - begun.at, 0.0),
                    first_step=begun.step,
                    last_step=row.step,
                    ended=row.ended,
                )
            )
            begun = None
    return finished


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


def account(slices: Sequence[Slice], config: SlurmConfig, why: str = "") -> SliceTotals:
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
    rows, _ = read_ledger(ledger)
    if rows and isinstance(rows[-1], Begin):
        # A killed node wrote no end. The newest change in the run folder is the best estimate of it.
        changes = [
            file.stat().st_mtime for file in (run / METRICS, *run.glob(f"{CHECKPOINTS}/step-*")) if file.exists()
        ]
        at = max([changed for changed in changes if changed < now] + [rows[-1].at])
        lost = End(time_s=_since_first(rows, at), step=step, epoch=epoch, at=at, ended="lost", code=None)
        rows.append(_append(ledger, lost))
    slices, job = read(rows), slurm_job()
    if slices:
        total = account(slices, config.slurm, why="its end was not recorded")
        if total.status in ("completed", "lifetime") or (total.status == "crash-loop" and slices[-1].job == job.id):
            _sum_up(run, total)
            raise Over(f"no further slice: {total.reason}")
    place = {"time_s": _since_first(rows, now), "step": step, "epoch": epoch, "at": now}
    _append(ledger, Begin(**place, waited_s=waited_s, job=job.id, restart=job.restarts))
    remaining = config.slurm.total_lifetime_s - sum(each.compute_s for each in slices)
    limits = [limit for limit in (config.max_time, remaining if remaining < config.slurm.slice_s else 0.0) if limit]
    return math.ceil(min(limits)) if limits else 0


def end(run: Path, config: Config, *, code: int, state: str, why: str, now: float) -> SliceTotals:
    """Write the row of a slice that ends, and the totals of all slices to result.json.

    Raises:
        UserError: if no slice has begun.
    """
    ledger, (step, epoch) = run / LEDGER, newest(run)
    rows, bad = read_ledger(ledger)
    place = {"time_s": _since_first(rows, now), "step": step, "epoch": epoch, "at": now}
    if not rows or not isinstance(rows[-1], Begin):
        if not bad:
            raise UserError(f"no slice was started in {ledger}: run 'distdl slurm begin' before the training")
        # The row of its begin is damaged: the duration of the slice is unknown.
        rows.append(_append(ledger, Begin(**place, waited_s=0.0, job=slurm_job().id, restart=0)))
    rows.append(_append(ledger, End(**place, ended=ended_as(code, state), code=code, why=why)))
    total = account(read(rows), config.slurm, f"exit code {code}" + (f": {why}" if why else ""))
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


def read_ledger(ledger: Path) -> tuple[list[LedgerRow], list[int]]:
    """Read the rows of a ledger. Also returns the numbers of damaged lines, which are skipped with a warning."""
    if not ledger.exists():
        return [], []
    rows = [_row(line) for line in ledger.read_bytes().splitlines(keepends=True)]
    bad = [number for number, row in enumerate(rows, start=1) if row is None]
    if bad:
        numbers = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        print(f"warning: {ledger}, line {numbers}: damaged, skipped", file=sys.stderr)
    return [row for row in rows if row is not None], bad


def _row(line: bytes) -> LedgerRow | None:
    """The row of a line; None if the line is incomplete or damaged."""
    value = parse_row(line) if line.endswith(b"\n") else None
    if value is None:
        return None
    try:
        return check(Begin if value.get("kind") == "begin" else End, value, strict=True)
    except UserError:
        return None


def _append(ledger: Path, row: LedgerRow) -> LedgerRow:
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with append_rows(ledger) as sink:
        sink.write(json.dumps(asdict(row)) + "\n")
    return row


def _since_first(rows: Sequence[LedgerRow], at: float) -> float:
    return round(at - (rows[0].at if rows else at), 3)


def _sum_up(run: Path, total: SliceTotals) -> None:
    try:
        result = read_result(run)
    except UserError:  # damaged: none of it can be used
        result = {}
    write_json(run / RESULT, {"status": "failed", **result, "slurm": asdict(total)})


if __name__ == "__main__":
    # Jobs that version 0.1 submitted requeue themselves with this command.
    warnings.warn("python -m distdl.launchers.slices is now distdl slurm", DeprecationWarning, stacklevel=1)
    sys.exit(importlib.import_module("distdl.cli.__main__").main(["slurm", *sys.argv[1:]]))
