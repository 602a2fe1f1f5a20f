"""Read losses by step from a run's metrics.jsonl or from a CSV file."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core import tables
from distdl.core.errors import UserError
from distdl.core.userfiles import read_text
from distdl.perf.arrays import Array

DROP = 0.6
"""A learning rate of at most this fraction of the previous one is a drop, not part of a smooth schedule."""


def read_losses(file: Path) -> tuple[Array, Array, list[float] | None]:
    """Read steps [n], training losses [n], and the steps before which the learning rate dropped (None if unknown).

    Args:
        file: a metrics.jsonl (rows of kind "train"), the run folder that has one, or a CSV file with columns step,
            loss and, if known, lr.
    Raises:
        UserError: the file cannot be read; the message names the line and the problem.
    """
    if file.is_dir():
        file = file / "metrics.jsonl"
    steps: list[float] = []
    losses: list[float] = []
    rates: list[float] = []
    for line, row in _json_rows(file) if file.suffix == ".jsonl" else _csv_rows(file):
        step, loss = _number(file, line, row, "step"), _number(file, line, row, "loss")
        if loss <= 0 or step < 0:
            raise UserError(f"{file}, line {line}: step {step:g} has loss {loss:g}; losses must be positive")
        if steps and step <= steps[-1]:
            raise UserError(f"{file}, line {line}: step {step:g} comes after step {steps[-1]:g}; steps must increase")
        steps.append(step)
        losses.append(loss)
        rates.append(_number(file, line, row, "lr") if row.get("lr") not in (None, "") else math.nan)
    if not steps:
        raise UserError(f"{file} has no training losses; rows with step and loss are expected")
    return np.array(steps), np.array(losses), _drops(steps, rates)


def _drops(steps: list[float], rates: list[float]) -> list[float] | None:
    if not all(map(math.isfinite, rates)):
        return None
    pairs = zip(steps, rates, rates[1:], strict=False)
    return [step for step, rate, next_rate in pairs if 0 < next_rate <= DROP * rate]


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = read_text(file)
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            # The last line of a killed run may be incomplete; the rows before it are valid.
            if number == len(lines) and not text.endswith("\n"):
                return
            raise UserError(f"{file}, line {number}: not JSON; a row of metrics.jsonl is expected") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {number}: a JSON object is expected")
        if row.get("kind", "train") == "train":
            yield number, row


def _csv_rows(file: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    for row in tables.read_csv(file, ("step", "loss"), expected="expected columns: step, loss"):
        yield row.line, row.cells


def _number(file: Path, line: int, row: Mapping[str, Any], name: str) -> float:
    if name not in row:
        raise UserError(f"{file}, line {line}: {name} is missing")
    return tables.number(file, line, name, row[name])
