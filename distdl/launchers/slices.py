"""One training in many slices, each a Slurm job's turn: what every slice took, and whether another comes.

A batch script calls `begin` before the training and `end` after it:

    seconds=$(distdl slurm begin --queued TIME -- ARGUMENTS) || exit 0
    srun python -m distdl.train ARGUMENTS --max-time "$seconds"
    distdl slurm end --code $? --state STATE/REASON -- ARGUMENTS && scontrol requeue ...

Both write a row to slices.jsonl in the run folder, and `end` sums the rows up in result.json. Neither imports torch.
A kill may come at any moment: a damaged line of that file, or a damaged checkpoint, does not end the chain of slices.
"""

import importlib
import itertools
import json
import math
import os
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
from distdl.core.rundir import CHECKPOINTS, METRICS, RESULT, in_use
from distdl.core.text import printable
from distdl.core.validation import check

LEDGER = "slices.jsonl"
EXIT_OVER = 3
"""No further slice."""
STOPPED = (EXIT_STOPPED, 128 + signal.SIGUSR2, 128 + signal.SIGTERM)
"""Exit codes of a training that was told to stop: it obeyed, or had not even begun and lost nothing."""
LINE_LENGTH = 300
"""Characters that are kept of the line that says why a slice failed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the ledger."""

    time_s: Finite
    """Since the first slice's begin."""
    step: Count
    """Of the newest checkpoint."""
    epoch: Count
    at: Rate
    """Unix time."""


@dataclass(frozen=True, kw_only=True)
class Begin(Row):
    """A slice begins."""

    kind: Literal["begin"] = "begin"
    waited_s: Rate
    job: str
    restart: Count


@dataclass(frozen=True, kw_only=True)
class End(Row):
    """A slice has ended."""

    kind: Literal["end"] = "end"
    ended: Literal["completed", "stopped", "failed", "refused", "taken", "lost"]
    code: int | None
    """The training's exit code; None where it is not known."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One turn of the job, from its two rows of the ledger."""

    job: str
    """Slurm's id; a training submitted anew has another."""
    waited_s: float
    """In the queue, from submission or from being queued again."""
    compute_s: float
    """From begin to end; of all nodes at once, and not times their number."""
    first_step: int
    """Of the newest checkpoint at the begin."""
    last_step: int
    """Of the newest checkpoint at the end."""
    ended: str
    """completed, stopped, failed, refused, taken (by Slurm: scancel, preemption) or lost (nobody wrote an end)."""

    @property
    def fruitless(self) -> bool:
        """Failed, and without a checkpoint that a next one could go on from."""
        return self.ended in ("failed", "lost") and self.last_step <= self.first_step


@dataclass(frozen=True, kw_only=True)
class Account:
    """All slices of one training added up, as result.json keeps it under "slurm"."""

    slices: int
    restarts: int
    waited_s: float
    compute_s: float
    status: str
    """requeued, or how it ended: completed, taken, refused, lifetime, crash-loop."""
    reason: str


def read(rows: Iterable[Row]) -> list[Slice]:
    """Finished slices of a ledger's rows, oldest first."""
    finished, begun = [], None
    for row in rows:
        if isinstance(row, Begin):
            begun = row
        elif begun is not None:
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


def ended_as(code: int, state: str) -> str:
    """How a slice ended, from the training's exit code and the job's "STATE/REASON" (squeue's %T/%r) after it.

    A job that scancel ended is COMPLETING while its batch script still runs, and Slurm would queue it again if it were
    asked to: only a job that runs, or that its time limit ended, is one that a person still wants.
    """
    if code == EXIT_DONE:
        return "completed"
    if state.split("/")[0] != "RUNNING" and not state.endswith("/TimeLimit"):
        return "taken"
    if code in STOPPED:
        return "stopped"
    return "refused" if code == EXIT_USER else "failed"


def account(slices: Sequence[Slice], config: SlurmConfig, why: str = "") -> Account:
    """Add slices up, and decide whether another comes.

    Args:
        slices: at least one.
        why: the last one's error message.
    """
    compute_s, last = sum(one.compute_s for one in slices), slices[-1]
    # Whoever submits a training again has corrected what made it fail.
    tail = itertools.takewhile(lambda one: one.fruitless and one.job == last.job, reversed(slices))
    fruitless = sum(1 for _ in tail)
    status, reason = "requeued", f"{compute_s:.0f} of {config.total_lifetime_s:.0f} s are used"
    if last.ended == "completed":
        status, reason = "completed", "trained to the end"
    elif last.ended == "taken":
        status, reason = "taken", "Slurm ended the job (scancel, or preemption): it is not queued again from here"
    elif last.ended == "refused":
        status, reason = "refused", f"its configuration is wrong, and a restart does not change it: {why}"
    elif compute_s >= config.total_lifetime_s:
        status, reason = "lifetime", f"{compute_s:.0f} s of computing use up slurm.total_lifetime_s"
    elif fruitless > config.max_restarts:
        reason = f"failed {fruitless} times in a row without a new checkpoint (at step {last.last_step}): {why}"
        status = "crash-loop"
    return Account(
        slices=len(slices),
        restarts=len(slices) - 1,
        waited_s=sum(one.waited_s for one in slices),
        compute_s=compute_s,
        status=status,
        reason=reason,
    )


def begin(run: Path, config: Config, *, waited_s: float, now: float) -> int:
    """Write the row of a slice that begins. Returns the seconds after which it must stop by itself; 0: it need not.

    Raises:
        Over: if there must not be one more.
        UserError: if another training runs in the folder.
    """
    if (process := runlock.holder(run)) is not None:
        raise in_use(run, process)
    ledger, (step, epoch) = run / LEDGER, newest(run)
    rows, _ = read_ledger(ledger)
    if rows and isinstance(rows[-1], Begin):
        # A killed node wrote no end. The run folder's last sign of life is the best that is known of it.
        life = [file.stat().st_mtime for file in (run / METRICS, *run.glob(f"{CHECKPOINTS}/step-*")) if file.exists()]
        at = max([time_of for time_of in life if time_of < now] + [rows[-1].at])
        lost = End(time_s=_since_first(rows, at), step=step, epoch=epoch, at=at, ended="lost", code=None)
        rows.append(_append(ledger, lost))
    slices, job = read(rows), os.environ.get("SLURM_JOB_ID", "")
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if slices:
        before = account(slices, config.slurm, why="nobody wrote its end")
        if before.status in ("completed", "lifetime") or (before.status == "crash-loop" and slices[-1].job == job):
            _sum_up(run, before)
            raise Over(f"no further slice: {before.reason}")
    place = {"time_s": _since_first(rows, now), "step": step, "epoch": epoch, "at": now}
    _append(ledger, Begin(**place, waited_s=waited_s, job=job, restart=restart))
    left = config.slurm.total_lifetime_s - sum(one.compute_s for one in slices)
    ends = [end for end in (config.max_time, left if left < config.slurm.slice_s else 0.0) if end]
    return math.ceil(min(ends)) if ends else 0


def end(run: Path, config: Config, *, code: int, state: str, why: str, now: float) -> Account:
    """Write the row of the slice that ends, and add all of them up in result.json.

    Raises:
        UserError: if no slice has begun.
    """
    ledger, (step, epoch) = run / LEDGER, newest(run)
    rows, bad = read_ledger(ledger)
    place = {"time_s": _since_first(rows, now), "step": step, "epoch": epoch, "at": now}
    if not rows or not isinstance(rows[-1], Begin):
        if not bad:
            raise UserError(f"{ledger} has no slice that has begun: call begin before the training")
        # The row of its begin is a damaged one: what the slice took is not known.
        rows.append(_append(ledger, Begin(**place, waited_s=0.0, job=os.environ.get("SLURM_JOB_ID", ""), restart=0)))
    rows.append(_append(ledger, End(**place, ended=ended_as(code, state), code=code, why=why)))
    total = account(read(rows), config.slurm, f"exit code {code}" + (f": {why}" if why else ""))
    _sum_up(run, total)
    return total


class Over(Exception):
    """There is no further slice, and why."""


def newest(run: Path) -> tuple[int, int]:
    """Step and epoch of the newest whole checkpoint, from which a training goes on; zeros before the first."""
    for folder in reversed(published(run / CHECKPOINTS)):
        try:
            if damaged(folder) is None:
                progress = Progress.of(folder)
                return progress.step, progress.epoch
        except (OSError, UserError):  # a training that still runs has removed it, or its manifest says nonsense
            continue
    return 0, 0


def last_line(log: Path) -> str:
    """What a job's log says of its failure: its last line that names an error, or else its last line."""
    if not log.is_file():
        return ""
    with log.open("rb") as source:
        source.seek(max(log.stat().st_size - 65536, 0))
        lines = [line.strip() for line in source.read().decode(errors="replace").splitlines() if line.strip()]
    mine = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    errors = [line for line in mine if "error:" in line.lower() or "exception:" in line.lower()]
    return printable(next(iter((errors or mine)[-1:]), "")[:LINE_LENGTH])


def read_ledger(ledger: Path) -> tuple[list[Row], list[int]]:
    """The rows of a ledger, and the numbers of its damaged lines, which are left out with a warning."""
    if not ledger.exists():
        return [], []
    rows = [_row(line) for line in ledger.read_bytes().splitlines(keepends=True)]
    bad = [number for number, row in enumerate(rows, start=1) if row is None]
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        print(f"warning: {ledger}, line {shown}: damaged, left out", file=sys.stderr)
    return [row for row in rows if row is not None], bad


def _row(line: bytes) -> Row | None:
    """The row that a line holds; None for one that a kill cut short, or that is damaged."""
    value = parse_row(line) if line.endswith(b"\n") else None
    if value is None:
        return None
    try:
        return check(Begin if value.get("kind") == "begin" else End, value, strict=True)
    except UserError:
        return None


def _append(ledger: Path, row: Row) -> Row:
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with append_rows(ledger) as sink:
        sink.write(json.dumps(asdict(row)) + "\n")
    return row


def _since_first(rows: Sequence[Row], at: float) -> float:
    return round(at - (rows[0].at if rows else at), 3)


def _sum_up(run: Path, total: Account) -> None:
    try:
        result = read_result(run)
    except UserError:  # damaged: nothing of it can be kept
        result = {}
    write_json(run / RESULT, {"status": "failed", **result, "slurm": asdict(total)})


if __name__ == "__main__":
    # Jobs that version 0.1 wrote queue themselves again with this command.
    warnings.warn("python -m distdl.launchers.slices is now distdl slurm", DeprecationWarning, stacklevel=1)
    sys.exit(importlib.import_module("distdl.cli.__main__").main(["slurm", *sys.argv[1:]]))
