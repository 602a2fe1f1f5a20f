"""The folder of a trial: its lock, its state (trial.json) and the output of its processes (output.log).

The lock is a flock on an open file. The trial's process inherits the descriptor, so the lock is held while the runner
or the trial runs, and is free as soon as both have ended.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from distdl.core import flock
from distdl.core.config import Count, Rate, Seconds
from distdl.core.errors import UserError
from distdl.core.files import write_json
from distdl.core.profiles import resolve
from distdl.core.result import current_result, is_unfinished
from distdl.core.userfiles import read_json
from distdl.core.validation import check
from distdl.studies.base import TRAIN, Trial, recipe_of

LOCK, RECORD, LOG = "lock", "trial.json", "output.log"
V01_ARGV = "words"  # plain: ok the key of a training's arguments in trial.json of version 0.1


@dataclass(frozen=True, kw_only=True)
class Record:
    """State of a trial in trial.json."""

    status: Literal["waiting", "running", "completed", "failed", "stopped"] = "waiting"
    """waiting, running, completed, failed or stopped. `running` with a free lock means interrupted."""
    attempts: Count = 0
    """Number of starts."""
    began: Rate = 0.0
    """Unix time of the last start, by the clock of `host`."""
    seconds: Seconds = 0.0
    """Seconds of all attempts."""
    host: str = ""
    given_cores: Count = 0
    """Number of cores that it had: fewer than `Trial.cores` if the host has fewer."""
    exit_code: int | None = None
    reason: str = ""
    """Reason for its failure, a line of its log."""


def lock(folder: Path) -> int | None:
    """Lock the folder. Returns the descriptor that holds the lock while it is open; None if another process holds it.

    Raises:
        UserError: on a file system without locks, or if the lock's file is a link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return flock.try_acquire(folder / LOCK)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be locked ({error.strerror}): the study's folder must be on a file system with locks "
            "(Lustre: mounted with -o flock)"
        ) from None


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of the folder."""
    if not (folder / LOCK).exists():
        return False
    descriptor = lock(folder)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def read(folder: Path) -> Record:
    """Read the trial's record; the default record if there is none."""
    table = _table(folder)
    known = {name: table[name] for name in Record.__dataclass_fields__ if name in table}
    return check(Record, known, where=str(folder / RECORD), strict=True)


def write(folder: Path, trial: Trial, record: Record) -> None:
    write_json(folder / RECORD, asdict(record) | definition(trial) | {"labels": dict(trial.labels)})


def definition(trial: Trial) -> dict[str, Any]:
    """Definition of a trial, as trial.json stores it."""
    is_training = trial.call == TRAIN
    table = {
        "call": trial.call,
        **({"profile": trial.recipe.profile, "overrides": dict(trial.recipe.overrides)} if is_training else {}),
        "ranks": trial.ranks,
        "hosts": trial.hosts,
        "cores": trial.cores,
        "settings": dict(trial.settings),
        "after": list(trial.after),
    }
    return json.loads(json.dumps(table, default=str))


def check_same(folder: Path, trial: Trial) -> None:
    """Raise a UserError if the folder belongs to a trial with another definition."""
    table = _table(folder)
    differ = [
        key for key, value in definition(trial).items() if key in table and key != "after" and table[key] != value
    ]
    if trial.call == TRAIN and V01_ARGV in table and not _same_training(trial, table[V01_ARGV]):
        differ.append("overrides")
    if differ:
        raise UserError(
            f"{folder} was created with other {differ[0]} than trial {trial.name} has now: remove it to run the trial "
            "again, or choose another --out"
        )


def _same_training(trial: Trial, argv: Sequence[str]) -> bool:
    """Whether the arguments in a record of version 0.1 result in this trial's configuration."""
    strategy = "ddp" if trial.ranks > 1 or trial.hosts else "single"
    try:
        return resolve(recipe_of(argv), strategy=strategy) == resolve(trial.recipe, strategy=strategy)
    except UserError:  # a file that another trial writes does not exist yet
        return True


def result(folder: Path) -> dict[str, Any]:
    """Return the final result of a trial; empty if the trial is running, was killed, or has not started."""
    stored = current_result(folder)
    return {} if is_unfinished(stored) else stored


def is_done(folder: Path, trial: Trial, record: Record) -> bool:
    """Whether a trial is completed.

    A killed runner may not have recorded this in trial.json: for a training, result.json is then decisive. The result
    of a `call` may be incomplete.
    """
    if record.status == "completed":
        return True
    return trial.call == TRAIN and result(folder).get("status") == "completed"


def host() -> str:
    return platform.node()


def _table(folder: Path) -> dict[str, Any]:
    return _object(folder / RECORD)


def _object(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a trial; empty if there is no file."""
    return read_json(file, "a file of a trial (remove the trial's folder to run it again)") if file.exists() else {}
