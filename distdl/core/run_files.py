"""Files of a run folder by name, and what a folder contains. `distdl.core.rundir` writes it.

config.toml  environment.json  metrics.jsonl  telemetry.jsonl  checkpoints/  result.json  report.html
"""

import time
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError
from distdl.core.manifest import published
from distdl.core.regular import lines_of, open_regular
from distdl.core.userfiles import read_json

CONFIG, ENVIRONMENT, METRICS, TELEMETRY, RESULT = (
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "telemetry.jsonl",
    "result.json",
)
CHECKPOINTS = "checkpoints"
RUNS = Path("runs")
"""Folder of the run folders that are not named by --out."""


def default_path(name: str) -> Path:
    """runs/NAME-TIME, with a number if the folder exists."""
    stem = RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


def holds_run(path: Path) -> bool:
    """Whether the folder contains a published checkpoint or a row of measurements."""
    return bool(published(path / CHECKPOINTS)) or _has_line(path / METRICS)


def _has_line(file: Path) -> bool:
    try:
        with open_regular(file) as source:
            return next(lines_of(source), b"").endswith(b"\n")
    except OSError:
        return False


def version(path: Path) -> tuple[Any, ...]:
    """A value that changes when a training enters the folder or publishes a checkpoint in it."""
    result = path / RESULT
    return [
        folder.name for folder in published(path / CHECKPOINTS)
    ], result.stat().st_mtime_ns if result.exists() else 0


def in_use(path: Path, process: int | None = None) -> UserError:
    """The error for a folder in which another training runs."""
    try:
        result = read_json(path / RESULT)
        host = result.get("host") if result.get("status") == "running" else None
    except UserError:
        host = None
    place = f"on host {host}, " if isinstance(host, str) and host.isprintable() else ""
    return UserError(
        f"{path} is in use by another training ({place}process {process or 'unknown'}): wait until it has ended, stop "
        "it, or give another --out"
    )
