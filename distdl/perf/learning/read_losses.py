"""Losses by step, read from a run's metrics.jsonl or from a CSV file."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core.errors import UserError, nearest, shortened
from distdl.core.userfiles import read_csv, read_text
from distdl.perf.speed.measurements import Array

DROP = 0.6
"""A learning rate at this share of the one before, or below, is a drop, and no part of a smooth schedule."""


def read_losses(file: Path) -> tuple[Array, Array, list[float] | None]:
    """Steps [n], training losses [n], and the steps before which the learning rate dropped (None where unknown).

    Args:
        file: a metrics.jsonl (rows of kind "train"), the run folder that holds one, or a CSV file with columns step,
            loss and, where known, lr.
    Raises:
        UserError: what is wrong, in which file and line.
    """
    if file.is_dir():
        file = file / "metrics.jsonl"
    rows = list(_json_rows(file) if file.suffix == ".jsonl" else _csv_rows(file))
    if not rows:
        raise UserError(f"{file} has no training losses; expected are rows with step and loss")
    steps, losses, rates = [], [], []
    for line, row in rows:
        step, loss = _number(file, line, row, "step"), _number(file, line, row, "loss")
        if loss <= 0 or step < 0:
            raise UserError(f"{file}, line {line}: step {step:g} has loss {loss:g}; losses must be positive")
        if steps and step <= steps[-1]:
            raise UserError(f"{file}, line {line}: step {step:g} comes after step {steps[-1]:g}; steps must increase")
        steps.append(step)
        losses.append(loss)
        rates.append(_number(file, line, row, "lr") if row.get("lr") not in (None, "") else math.nan)
    return np.array(steps), np.array(losses), _drops(steps, rates)


def _drops(steps: list[float], rates: list[float]) -> list[float] | None:
    if not all(map(math.isfinite, rates)):
        return None
    return [before for before, old, new in zip(steps, rates, rates[1:], strict=False) if 0 < new <= DROP * old]


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
            # A kill cuts the last line short, and the run goes on elsewhere: that is no fault of the file.
            if number == len(lines) and not text.endswith("\n"):
                return
            raise UserError(f"{file}, line {number}: this is no JSON; a row of metrics.jsonl is expected") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {number}: a JSON object is expected")
        if row.get("kind", "train") == "train":
            yield number, row


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = read_csv(file)
    if not rows:
        raise UserError(f"{file} is empty; expected are columns step and loss")
    line, header = rows[0]
    for name in ("step", "loss"):
        if name not in header:
            raise UserError(f"{file}, line {line}: column {name} is missing{nearest(name, header)}")
    for line, cells in rows[1:]:
        yield line, dict(zip(header, cells, strict=True))


def _number(file: Path, line: int, row: dict[str, Any], name: str) -> float:
    if name not in row:
        raise UserError(f"{file}, line {line}: {name} is missing")
    try:
        value = float(row[name])
    except (TypeError, ValueError, OverflowError):
        raise UserError(f'{file}, line {line}: {name} is "{shortened(str(row[name]))}", not a number') from None
    if not math.isfinite(value):
        raise UserError(f"{file}, line {line}: {name} is {value:g}; it must be finite")
    return value
