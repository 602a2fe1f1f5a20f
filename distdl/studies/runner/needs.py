"""Check of a study's requirements before its first trial: configuration, packages, data sets, weights.

The requirements follow from the configurations of the trials. They are checked by the functions that a training calls,
so that the messages are the same. Files of other trials (paths in the study's folder) are not checked.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distdl.core import factories, registry
from distdl.core.conditions import selected
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.kinds import KINDS
from distdl.core.profiles import read_profile, resolve
from distdl.studies.base import TRAIN, Trial
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.settings import PROFILE
from distdl.training.trackers.base import names as trackers


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
    names = {(kind.group, name) for kind, name in selected(config)} | {("trackers", name) for name in trackers(config)}
    for group, name in sorted(names):
        if not KINDS[group].open:
            yield _component, group, name
    if not _inside(config.data.name, study):
        yield _data_set, config.data.name, config.data.root, _hashable(config.options.get("dataset", {}))
    yield _network, config.model.name
    if config.model.weights != "none" and not _inside(config.model.weights, study):
        yield _weights, config.model.weights, config.model.name


def _inside(name: str, study: Path) -> bool:
    return Path(name).is_absolute() and Path(name).is_relative_to(study)


def _component(group: str, name: str) -> None:
    row = registry.find(group, name)
    if registry.is_shipped(group, row):
        registry.require_installed(group, name, row)  # its import takes seconds, and cannot fail otherwise
    else:
        factories.get(group, name, row)


def _hashable(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in options.items()))


def _data_set(name: str, root: Path | None, options: tuple[tuple[str, Any], ...]) -> None:
    from distdl.data.sets.load import locate, source_of

    locate(name, source_of(name, root, dict(options)), root)


def _network(name: str) -> None:
    from distdl.models.build import find

    find(name)


def _weights(weights: str, network: str) -> None:
    from distdl.models.weights import locate, read

    read(locate(weights, network))
