"""Reading of a run folder for a report, with a note on each file that is missing or damaged."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core import schema
from distdl.core.errors import UserError, reason
from distdl.core.regular import read_regular
from distdl.core.result import is_unfinished, reconcile
from distdl.core.run_files import CONFIG, ENVIRONMENT, METRICS, RESULT, TELEMETRY
from distdl.core.userfiles import parse_json, parse_toml
from distdl.report.counters import SAMPLE

RunRow = dict[str, Any]
LARGEST_ROWS = 2**31
"""Maximum size in bytes of a .jsonl file: the rows of days of telemetry."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Content of a run folder. Result, environment and rows contain only the fields of `schema`, with valid values."""

    path: Path
    label: str
    """Name that is unique among the runs of a report."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any]
    """Values so far if the run has not ended; empty without result.json."""
    train: list[RunRow]
    """Training rows in the order of steps."""
    evaluations: dict[str, list[RunRow]]
    """Rows with an accuracy, by split (test, validation)."""
    telemetry: list[RunRow]
    notes: tuple[str, ...]
    """Messages about missing or damaged files, and the warnings of the run."""

    @property
    def status(self) -> str:
        return str(self.result.get("status") or "not ended")

    @property
    def strategy(self) -> str:
        return str(self.result.get("strategy") or self.config.get("strategy") or "")

    @property
    def exchange(self) -> str:
        """Name of the strategy, with a note if compute was replayed."""
        served = self.result.get("ps")
        replayed = isinstance(served, dict) and served.get("replayed") is True
        return self.strategy + ", compute replayed" * replayed


def is_run(path: Path) -> bool:
    """Whether `path` is a folder written by a training."""
    return any((path / name).is_file() for name in (CONFIG, METRICS, RESULT))


def read(path: Path, label: str = "") -> Run:
    """Read a run folder, which may be damaged or unfinished.

    Raises:
        UserError: if it is not a run folder.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give the folder of a run or of a study")
    if not is_run(path):
        raise UserError(f"{path} is not a run folder: it has no {CONFIG}, {METRICS} or {RESULT}")
    notes: list[str] = []
    rows = _rows(path / METRICS, schema.MEASUREMENT, notes)
    result = _result(path, notes)
    samples = sorted(path.glob(f"{Path(TELEMETRY).stem}*.jsonl"))
    telemetry = [row for file in samples for row in _rows(file, SAMPLE, notes)]
    config = _table(path / CONFIG, parse_toml, notes, absent="the configuration is not known")
    evaluations: dict[str, list[RunRow]] = {}
    for row in rows:
        if row["kind"] not in ("train", "warning") and "accuracy" in row:
            evaluations.setdefault(row["kind"], []).append(row)
    train = [row for row in rows if row["kind"] == "train"]
    if not train:
        notes.append(f"{METRICS} has no training row: the curves are missing")
    for row in train:
        if not math.isfinite(row.get("loss", 0.0)):
            notes.append(f"the loss is not finite at step {row['step']:,}; such points are missing in the curves")
            break
    warnings = dict.fromkeys(row["message"] for row in rows if row["kind"] == "warning" and "message" in row)
    return Run(
        path=path,
        label=label or path.resolve().name,
        config=config,
        environment=_taken(
            _table(path / ENVIRONMENT, parse_json, notes, absent="the machine is not known"),
            schema.ENVIRONMENT,
            ENVIRONMENT,
            notes,
        ),
        result=result,
        train=train,
        evaluations=evaluations,
        telemetry=[row for row in telemetry if row["kind"] in ("nvml", "host")],
        notes=(*notes, *warnings),
    )


def labels(paths: list[Path]) -> list[str]:
    """Unique name of each folder: its name, with the names of its parents if that is not unique."""
    parts = [path.resolve().parts[1:] for path in paths]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, 1)]


def _table(file: Path, parse: Callable[[str], Any], notes: list[str], *, absent: str) -> dict[str, Any]:
    if not os.path.lexists(file):
        notes.append(f"there is no {file.name}: {absent}")
        return {}
    try:
        return schema.read_table(file, parse, file.name)
    except UserError as error:
        notes.append(str(error))
        return {}


def _taken(table: dict[str, Any], kind: schema.FieldKind, file: str, notes: list[str]) -> dict[str, Any]:
    """Return the valid values of a table; a note lists the invalid ones."""
    odd: Counter[str] = Counter()
    taken = schema.take(table, kind, odd)
    notes += schema.left_out(file, odd)
    return taken


def _result(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return the result of a run; for a run that is training or was killed, the values so far."""
    result = _table(path / RESULT, parse_json, notes, absent="the run has not ended, or was killed")
    result = _taken(reconcile(path, result) if result else {}, schema.RESULT, RESULT, notes)
    if is_unfinished(result):
        notes.append(f"the run {_UNFINISHED[result['status']]}: values are those at step {result.get('steps', 0):,}")
    steps = [str(leg["from_step"]) for leg in result.get("legs", [])[1:] if "from_step" in leg]
    if steps:
        notes.append(f"the run was resumed {len(steps)} times, at step {', '.join(steps)}")
    return result


_UNFINISHED = {"running": "has not ended", "killed": "was killed", "not ended": "has not ended, or was killed"}


def _rows(file: Path, kind: dict[str, schema.FieldKind], notes: list[str]) -> list[RunRow]:
    """Return the rows of a .jsonl file; damaged lines are counted in a note."""
    if not os.path.lexists(file):
        notes.append(f"there is no {file.name}")
        return []
    try:
        lines = read_regular(file, LARGEST_ROWS).splitlines()
    except OSError as error:
        notes.append(f"{file.name} cannot be read: {reason(error)}")
        return []
    odd: Counter[str] = Counter()
    rows, bad = schema.take_rows(_parsed(lines), kind, odd)
    if bad:
        lines_are = "1 line is" if bad == 1 else f"{bad:,} lines are"
        notes.append(f"{lines_are} damaged in {file.name} and ignored, of {len(lines):,}")
    notes += schema.left_out(file.name, odd)
    return rows


def _parsed(lines: list[bytes]) -> list[Any]:
    """Value of each line, None for a damaged line."""
    try:  # parsing all lines at once is a third faster
        values = json.loads(b"[" + b",".join(lines) + b"]")
        if len(values) == len(lines):
            return values
    except (ValueError, RecursionError):
        pass
    return [_parsed_line(line) for line in lines]


def _parsed_line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
