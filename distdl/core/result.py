"""The current result of a run: result.json, checked against metrics.jsonl, since a later leg may have been killed.

All readers of a run's result use `current_result`.
"""

import math
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from distdl.core import runlock, schema
from distdl.core.errors import UserError
from distdl.core.files import is_row, parse_row
from distdl.core.regular import open_regular
from distdl.core.run_files import METRICS, RESULT
from distdl.core.userfiles import read_json

UNFINISHED = ("running", "killed", "not ended")
"""Status of a run without a final result: a process is training; it was killed; one of the two (version 1)."""
IDENTITY = (
    *("name", "started", "host", "pid", "world_size", "nodes", "strategy", "loader", "device", "global_batch", "legs"),
    *("slurm", "flops_per_step", "peak_flops_per_s", "best_step_s"),
)
"""Keys that stay valid when a run is resumed."""
TAIL_BYTES = 1 << 18


def read_result(run: Path) -> dict[str, Any]:
    """Read result.json; empty if there is none.

    Raises:
        UserError: if it is not a JSON object.
    """
    file = run / RESULT
    return read_json(file, "a result of distdl") if os.path.lexists(file) else {}


def current_result(run: Path) -> dict[str, Any]:
    """The result of a run; for a run that is running or was killed, the figures so far.

    Empty if the folder has neither a result nor measurements.

    Raises:
        UserError: if result.json is damaged.
    """
    return reconcile(run, read_result(run))


def checked_result(run: Path) -> dict[str, Any]:
    """The current result, whose values are of the kinds of `schema.RESULT`.

    Raises:
        UserError: as `current_result`, or naming the values of another kind.
    """
    result, invalid = current_result(run), Counter[str]()
    schema.take(result, schema.RESULT, invalid)
    if invalid:
        raise UserError(f"{run / RESULT} has invalid values: {schema.listed(invalid)}")
    return result


def reconcile(run: Path, result: dict[str, Any]) -> dict[str, Any]:
    """`result` if metrics.jsonl has no later rows; else an unfinished status and the figures so far."""
    rows = newest_rows(run / METRICS)
    steps = result.get("steps")
    newest = max((row["step"] for row in rows), default=0)
    is_final = result.get("status") not in UNFINISHED and (not isinstance(steps, int) or newest <= steps)
    if (result and is_final) or (not result and not rows):
        return result
    current = {key: value for key, value in result.items() if key in IDENTITY}
    current |= {"status": _unfinished(run, result), "steps": newest}
    train = next((row for row in reversed(rows) if row["kind"] == "train"), None)
    return current | (_so_far(train) if train else {})


def is_unfinished(result: dict[str, Any]) -> bool:
    """Whether a run has no final result."""
    return result.get("status") in UNFINISHED


def _so_far(row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a result that a training row contains."""
    seconds = row.get("seconds")
    if not isinstance(seconds, dict) or not all(
        type(value) in (int, float) and 0 <= value < 2**63 for value in seconds.values()
    ):
        seconds = {}  # version 1, or damaged: only the training time is known
    seconds = {"evaluate": 0.0, "checkpoint": 0.0, "start": 0.0} | seconds
    return {
        "epochs": int(row["epoch"]),
        "train_s": row["time_s"],
        "held_s": row["time_s"] + math.fsum(value for name, value in seconds.items() if name != "warm"),
        "images_per_s": row.get("images_per_s"),
        "phases_s": row.get("phases_s"),
        **{f"{name}_s": value for name, value in seconds.items()},
    }


def _unfinished(run: Path, result: dict[str, Any]) -> str:
    if runlock.holder(run) is not None:
        return "running"
    if result.get("status") != "running":
        return "not ended"
    # Locks may be local to a host: another host cannot see whether the process is running.
    return "killed" if result.get("host") == platform.node() else "running"


def newest_rows(file: Path) -> list[dict[str, Any]]:
    """The last rows of metrics.jsonl, without damaged lines."""
    try:
        with open_regular(file) as source:
            size = source.seek(0, 2)
            source.seek(max(size - TAIL_BYTES, 0))
            lines = source.read().splitlines(keepends=True)
    except OSError:
        return []
    if size > TAIL_BYTES:
        lines = lines[1:]
    rows = [parse_row(line) for line in lines if line.endswith(b"\n")]
    return [row for row in rows if is_row(row)]
