"""Choice of the run folder and of the checkpoint to continue from. Nothing is written here."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core import checkpoints, runlock
from distdl.core.config import Config
from distdl.core.errors import UserError, reason
from distdl.core.manifest import Progress, published, read_manifest, step_of
from distdl.core.result import current_result, newest_rows
from distdl.core.rundir import CHECKPOINTS, METRICS, default_path, holds_run, in_use, version
from distdl.core.text import printable
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text


@dataclass(frozen=True, kw_only=True)
class Place:
    """Run folder and first checkpoint of a training."""

    path: Path
    """The run folder."""
    start: Path | None = None
    """The checkpoint to continue from; None starts at step 0."""
    source: Path | None = None
    """The path given by `--resume`, if it is outside the run folder."""
    evaluated: bool = False
    """Whether the weights of `start` have been evaluated."""
    seen: tuple[Any, ...] | None = None
    """Version of the folder, on rank 0."""


def find(config: Config, strategy: Strategy) -> Place:
    """The run folder and the checkpoint to continue from, the same on every rank. Rank 0 looks.

    Raises:
        UserError: on every rank, for a folder that holds a run, is in use, cannot be written, or has nothing to resume.
    """
    answer, message, seen = "", "", None
    if strategy.world.rank == 0:
        try:
            place = locate(config)
            seen = place.seen
            answer = json.dumps([str(place.path), str(place.start or ""), str(place.source or ""), place.evaluated])
        except UserError as error:
            message = str(error)
        except OSError as error:  # a name that is too long, a folder that may not be searched
            message = f"{error.filename or config.out}: {reason(error)}"
    answer, message = broadcast_text(strategy, answer), broadcast_text(strategy, message)
    if message:
        raise UserError(message)
    path, start, source, evaluated = json.loads(answer)
    return Place(
        path=Path(path),
        start=Path(start) if start else None,
        source=Path(source) if source else None,
        evaluated=evaluated,
        seen=seen,
    )


def locate(config: Config) -> Place:
    """The run folder of a configuration, and the checkpoint to continue from.

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
        raise UserError(f"{path} holds a run already: resume it by --resume auto, or give another --out")
    if (process := runlock.holder(path)) is not None:
        raise in_use(path, process)
    evaluated = start is not None and read_manifest(start)["metric"] is not None
    return Place(path=path, start=start, source=source, evaluated=evaluated, seen=seen)


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
    """Refuse a folder that holds another run than one that was started from `source` and has no checkpoint yet."""
    if not holds_run(path):
        return
    legs = current_result(path).get("legs")
    last = legs[-1] if isinstance(legs, list) and legs else None
    begun_by_it = isinstance(last, dict) and last.get("resumed_from") == str(source)
    if published(path / CHECKPOINTS) or not begun_by_it:
        raise UserError(
            f"{path} holds a run already, and --resume {source} is outside it: resume that run by --resume auto, or "
            "give another --out"
        )


def _check_writable(path: Path) -> None:
    """Refuse a path under which no folder can be made, as far as this can be known without trying."""
    for place in (path / CHECKPOINTS, path, *path.parents):
        if place.exists() or place.is_symlink():
            if not place.exists():
                raise UserError(
                    f"the run folder {path} cannot be written: {place} is a link to {place.readlink()}, which does not "
                    "exist"
                )
            if not place.is_dir():
                raise UserError(f"the run folder {path} cannot be written: {place} is a file")
            if not os.access(place, os.W_OK | os.X_OK):
                raise UserError(f"the run folder {path} cannot be written: {place} is read-only for this user")
            return


def _warn(message: str) -> None:
    print(f"warning: {printable(message)}", file=sys.stderr, flush=True)
