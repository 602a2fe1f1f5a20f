"""The ledger of a training's slices: slices.jsonl in the run folder, a row when a slice begins and one when it ends.

A kill is possible at any moment: a damaged line is skipped.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from distdl.core.config import Count, Finite, Rate
from distdl.core.errors import UserError
from distdl.core.files import append_rows, parse_row
from distdl.core.validation import check

LEDGER = "slices.jsonl"
Ending = Literal["completed", "stopped", "failed", "refused", "taken", "lost"]
"""End of a slice. taken: Slurm ended it (scancel, preemption); lost: its end was not recorded."""


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A row of the ledger."""

    time_s: Finite
    """Seconds since the first slice began."""
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
    """Wall time of the slice; not multiplied by the number of nodes."""
    first_step: int
    """Step of the newest checkpoint when it began."""
    last_step: int
    """Step of the newest checkpoint when it ended."""
    ended: Ending

    @property
    def fruitless(self) -> bool:
        """Whether it failed without a new checkpoint."""
        return self.ended in ("failed", "lost") and self.last_step <= self.first_step


def finished_slices(rows: Iterable[LedgerRow]) -> list[Slice]:
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


def load(ledger: Path) -> tuple[list[LedgerRow], list[int]]:
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


def append(ledger: Path, row: LedgerRow) -> LedgerRow:
    """Append a row. Returns it."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with append_rows(ledger) as sink:
        sink.write(json.dumps(asdict(row)) + "\n")
    return row


def since_first(rows: Sequence[LedgerRow], at: float) -> float:
    """Seconds from the first row to the Unix time `at`."""
    return round(at - (rows[0].at if rows else at), 3)
