"""Check of a study's requirements before its first trial: configuration, packages, data sets, weights.

The requirements follow from the configurations of the trials. They are checked by the functions that a training calls,
so that the messages are the same. Files of other trials (paths in the study's folder) are not checked.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distdl.core.config import Config
from distdl.core.errors import UserError, missing
from distdl.core.profiles import read_profile, resolve
from distdl.studies.base import TRAIN, Trial
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.settings import PROFILE


def check(folder: StudyFolder) -> None:
    """Raise a UserError that names the trial, for the first requirement of a trial that is missing.

    Data sets and weights that can be downloaded are downloaded here, once.
    """
    _check_profile(folder)
    checked: set[tuple[Any, ...]] = set()
    outcomes = folder.outcomes()
    for trial in folder.trials:
        if trial.call != TRAIN or outcomes[trial.name].completed:
            continue
        try:
            config = configuration(trial)
        except UserError as error:
            if trial.after:
                continue  # another trial may write the profile that it reads
            raise UserError(f"study {folder.study.name}, trial {trial.name}: {error}") from None
        try:
            for need, *arguments in _needs(config, folder.path):
                if (need, *arguments) not in checked:
                    need(*arguments)
                    checked.add((need, *arguments))
        except UserError as error:
            raise UserError(f"study {folder.study.name}, trial {trial.name}: {error}") from None


def _check_profile(folder: StudyFolder) -> None:
    """Read the training profile of the settings: trials that call a function read it only when they run."""
    if (profile := getattr(folder.settings, PROFILE, None)) is not None:
        try:
            read_profile(profile)
        except UserError as error:
            raise UserError(f"study {folder.study.name}: {PROFILE}: {error}") from None


def configuration(trial: Trial) -> Config:
    """Resolve the configuration of a trial that is a training."""
    return resolve(trial.recipe, strategy="ddp" if trial.ranks > 1 or trial.hosts else "single")


def _needs(config: Config, study: Path) -> Iterator[tuple[Any, ...]]:
    """Yield functions and their arguments. Each function raises a UserError if its requirement is missing."""
    if config.strategy == "horovod":
        yield (_horovod,)
    if config.strategy == "deepspeed":
        yield _package, "deepspeed", "deepspeed"
    if config.data.loader == "dali":
        yield _package, "nvidia.dali", "dali"
    if config.optim.name in ("lars", "lamb"):
        yield _package, "timm", "large-batch"
    if config.telemetry.tensorboard:
        yield _package, "tensorboard", "tensorboard"
    if not _inside(config.data.name, study):
        yield _data_set, config.data.name, config.data.root
    yield _network, config.model.name
    if config.model.weights != "none" and not _inside(config.model.weights, study):
        yield _weights, config.model.weights, config.model.name


def _inside(name: str, study: Path) -> bool:
    return Path(name).is_absolute() and Path(name).is_relative_to(study)


def _package(name: str, extra: str) -> None:
    if not _installed(name):
        raise missing(name, extra)


def _horovod() -> None:
    if not _installed("horovod"):
        raise UserError("Horovod is not installed; containers/horovod/build.sh builds it for this PyTorch")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # its parent is missing
        return False


def _data_set(name: str, root: Path | None) -> None:
    from distdl.data.sets.load import locate, source_of

    locate(name, source_of(name), root)


def _network(name: str) -> None:
    from distdl.models.build import find

    find(name)


def _weights(weights: str, network: str) -> None:
    from distdl.models.weights import locate, read

    read(locate(weights, network))
