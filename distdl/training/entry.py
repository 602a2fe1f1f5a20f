"""Choice of the run folder and of the checkpoint to resume from. Nothing is written here."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core import checkpoints, ownership, runlock
from distdl.core.config import Config
from distdl.core.errors import UserError, reason
from distdl.core.manifest import Progress, published, read_manifest, step_of
from distdl.core.result import current_result, newest_rows
from distdl.core.run_files import CHECKPOINTS, METRICS, default_path, holds_run, in_use, version
from distdl.core.text import print_line
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Run folder of a training, and the checkpoint that it resumes from."""

    path: Path
    """The run folder."""
    start: Path | None = None
    """The checkpoint to resume from; None starts at step 0."""
    source: Path | None = None
    """The path passed to `--resume`, if it is outside the run folder."""
    evaluated: bool = False
    """Whether the weights of `start` have been evaluated."""
    seen: tuple[Any, ...] | None = None
    """Version of the folder when it was inspected; on rank 0 only."""


def find(config: Config, strategy: Strategy) -> Entry:
    """Find the run folder and the checkpoint to resume from. Rank 0 searches, and all ranks get its result.

    Raises:
        UserError: on every rank, for a folder that holds a run, is in use, cannot be written, or has nothing to resume.
    """
    located, message, seen = "", "", None
    if strategy.world.rank == 0:
        try:
            entry = locate(config)
            seen = entry.seen
            located = json.dumps([str(entry.path), str(entry.start or ""), str(entry.source or ""), entry.evaluated])
        except UserError as error:
            message = str(error)
        except OSError as error:  # a name that is too long, a folder that may not be searched
            message = f"{error.filename or config.out}: {reason(error)}"
    located, message = broadcast_text(strategy, located), broadcast_text(strategy, message)
    if message:
        raise UserError(message)
    path, start, source, evaluated = json.loads(located)
    return Entry(
        path=Path(path),
        start=Path(start) if start else None,
        source=Path(source) if source else None,
        evaluated=evaluated,
        seen=seen,
    )


def locate(config: Config) -> Entry:
    """Return the run folder of a configuration and the checkpoint to resume from.

    Raises:
        UserError: as `find`.
    """
    path = (config.out or default_path(config.name)).resolve()
    _check_writable(path)
    seen, start, source = version(path), None, None
    if config.resume == "auto":
        start = _newest(path)
    elif config.resume:
        source = Path(config.resume).resolve()
        if source.is_relative_to(path):
            start, source = _earlier(path, source), None
        else:
            _check_free(path, source)
            start = checkpoints.find(source, _warn)
    elif holds_run(path):
        raise UserError(f"{path} already contains a run: resume it with --resume auto, or choose another --out")
    if (process := runlock.holder(path)) is not None:
        raise in_use(path, process)
    if start is not None and (message := ownership.warning(start)):
        _warn(message)
    evaluated = start is not None and read_manifest(start)["metric"] is not None
    return Entry(path=path, start=start, source=source, evaluated=evaluated, seen=seen)


def _newest(path: Path) -> Path | None:
    if published(path / CHECKPOINTS):
        return checkpoints.find(path, _warn)
    if rows := newest_rows(path / METRICS):
        _warn(
            f"{path} has measurements up to step {max(row['step'] for row in rows)} but no checkpoint: training "
            "starts again at step 0 and replaces them"
        )
    return None


def _earlier(path: Path, source: Path) -> Path:
    start = checkpoints.find(source, _warn)
    step = Progress.of(start).step
    if any(step_of(folder) > step for folder in published(path / CHECKPOINTS)):
        _warn(f"checkpoints after step {step} are set aside as {path / CHECKPOINTS}/replaced-step-*")
    return start


def _check_free(path: Path, source: Path) -> None:
    """Refuse a folder that contains a run, except one that was started from `source` and has no checkpoint yet."""
    if not holds_run(path):
        return
    legs = current_result(path).get("legs")
    last = legs[-1] if isinstance(legs, list) and legs else None
    started_from_source = isinstance(last, dict) and last.get("resumed_from") == str(source)
    if published(path / CHECKPOINTS) or not started_from_source:
        raise UserError(
            f"{path} already contains a run, and --resume {source} is outside it: resume that run with --resume auto, "
            "or choose another --out"
        )


def _check_writable(path: Path) -> None:
    """Refuse a path under which no folder can be created, as far as can be checked without creating one."""
    for existing in (path / CHECKPOINTS, path, *path.parents):
        if existing.exists() or existing.is_symlink():
            if not existing.exists():
                raise UserError(
                    f"the run folder {path} cannot be written: {existing} is a link to {existing.readlink()}, which "
                    "does not exist"
                )
            if not existing.is_dir():
                raise UserError(f"the run folder {path} cannot be written: {existing} is a file")
            if not os.access(existing, os.W_OK | os.X_OK):
                raise UserError(f"the run folder {path} cannot be written: {existing} is read-only for this user")
            return


def _warn(message: str) -> None:
    print_line(f"warning: {message}", to_stderr=True)
