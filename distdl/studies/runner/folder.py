"""The folder of a study: name and settings of the study, the state of each trial, and the findings.

study.toml  trials/NAME/  findings.json
"""

import dataclasses
import graphlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from distdl.core import targets
from distdl.core.components import COMPONENTS
from distdl.core.contracts import ComponentError, one_line
from distdl.core.errors import UserError, reading
from distdl.core.files import write_atomic, write_json
from distdl.core.flock import locked
from distdl.core.hosts import check_host_list
from distdl.core.names import as_name, check_name
from distdl.core.profiles import Recipe
from distdl.core.userfiles import read_toml
from distdl.report.content import Picture, Section
from distdl.studies.base import Outcome, Study, Trial
from distdl.studies.runner import catalog, trial_lock
from distdl.studies.runner.settings import as_table, current_names, validate

STUDY, FINDINGS, TRIALS = "study.toml", "findings.json", "trials"


def _trials(study: Study, settings: Any) -> list[Trial]:
    """The trials of a study; any exception that a study of another package raises is one line."""
    if study.name in COMPONENTS[catalog.GROUP]:
        return study.trials(settings)
    with one_line(lambda text: ComponentError(f"study {study.name}: trials {text}")):
        return study.trials(settings)


class StudyFolder:
    """One study with its settings and its folder.

    Raises:
        UserError: if two trials have the same name, or trials depend on each other in a cycle.
    """

    def __init__(self, path: Path, study: Study, settings: Any) -> None:
        self.path, self.study, self.settings = path.resolve(), study, settings
        self.trials: list[Trial] = [self._with_paths(trial) for trial in _trials(study, settings)]
        _check(study.name, self.trials)

    @classmethod
    def create(cls, path: Path, study: Study, settings: Any) -> "StudyFolder":
        """Open the folder for these settings; create it if it does not exist.

        Raises:
            UserError: if it contains another study, or this one with other settings.
        """
        made = cls(path, study, settings)
        if not made.trials:
            raise UserError(f"study {study.name} has no trials with these settings: is one of its lists empty?")
        table = {"study": study.name, "settings": as_table(settings)}
        try:
            made.path.mkdir(parents=True, exist_ok=True)
            with locked(made.path / "lock"):  # several processes may create it at the same time
                if not (made.path / STUDY).exists():
                    write_atomic(made.path / STUDY, lambda sink: tomli_w.dump(table, sink))
        except OSError as error:
            raise UserError(f"the study's folder {path} cannot be written: {error.strerror or error}") from None
        existing = read_study(path)
        if existing["study"] != study.name:
            raise UserError(f"{path} contains study {existing['study']}: choose another --out")
        existing["settings"] = current_names(study, existing["settings"], where=str(path / STUDY))
        other = {
            key
            for key in table["settings"] | existing["settings"]
            if table["settings"].get(key) != existing["settings"].get(key)
        }
        if other:
            key = min(other)
            raise UserError(
                f"{path} contains this study with {key} = {existing['settings'].get(key)!r}, not "
                f"{table['settings'].get(key)!r}: use the same settings to resume it, or choose another --out"
            )
        for trial in made.trials:
            trial_lock.check_same(made.folder(trial), trial)
        return made

    @classmethod
    def open(cls, path: Path) -> "StudyFolder":
        """Open the study in a folder.

        Raises:
            UserError: if the folder contains no study, or the study's package is not installed.
        """
        existing = read_study(path)
        study = catalog.find(_trusted(existing["study"], path))
        return cls(path, study, validate(study, existing["settings"], where=str(path / STUDY)))

    def folder(self, trial: Trial) -> Path:
        return self.path / TRIALS / trial.name

    def outcomes(self) -> dict[str, Outcome]:
        """Return the current state and result of each trial, by name."""
        return {trial.name: self._outcome(trial) for trial in self.trials}

    def sections(self) -> list[Section]:
        """Compute the findings from the results so far.

        Raises:
            UserError: if a trial's files do not have the content that the study expects, or for any exception that the
                study of another package raises.
        """
        outcomes = self.outcomes()
        name = self.study.name
        is_own = name in COMPONENTS[catalog.GROUP]
        results = reading(self.path / TRIALS, f"results of study {name}")
        with results if is_own else one_line(lambda text: ComponentError(f"study {name}: findings {text}")):
            return self.study.findings(self.settings, outcomes)

    def write_findings(self, sections: Sequence[Section]) -> None:
        """Write the findings as findings.json, and their pictures as PNG files in the same folder."""
        for picture in (part for section in sections for part in section.parts if isinstance(part, Picture)):
            write_atomic(self.path / f"{as_name(picture.name)}.png", lambda sink, png=picture.png: sink.write(png))
        write_json(self.path / FINDINGS, [_plain(section) for section in sections])

    def _outcome(self, trial: Trial) -> Outcome:
        folder = self.folder(trial)
        record = trial_lock.read(folder)
        status = "completed" if trial_lock.is_done(folder, trial, record) else record.status
        if status == "running" and not trial_lock.is_locked(folder):
            status = "stopped"
        return Outcome(trial=trial, folder=folder, status=status, result=trial_lock.result(folder))

    def _with_paths(self, trial: Trial) -> Trial:
        recipe = trial.recipe
        overrides = {name: self._replaced(value) for name, value in recipe.overrides.items()}
        return dataclasses.replace(trial, recipe=Recipe(profile=self._replaced(recipe.profile), overrides=overrides))

    def _replaced(self, value: Any) -> Any:
        """Return the value with {study} replaced by the path of this folder, in text and in lists of text."""
        if isinstance(value, list | tuple):
            return type(value)(self._replaced(each) for each in value)
        return value.replace("{study}", str(self.path)) if isinstance(value, str) else value


def read_study(path: Path) -> dict[str, Any]:
    """Read study.toml: the name of the study and its settings, which are not validated.

    Raises:
        UserError: if the file does not exist or is damaged.
    """
    file = path / STUDY
    if not os.path.lexists(file):
        raise UserError(f"{path} contains no study: {STUDY} is missing")
    table = read_toml(file)
    study, settings = table.get("study"), table.get("settings", {})
    if not isinstance(study, str) or not isinstance(settings, dict) or table.keys() - {"study", "settings"}:
        raise UserError(f"{file} is damaged: it must contain the name of a study and its [settings], and nothing else")
    return {"study": study, "settings": settings}


def _check(study: str, trials: Sequence[Trial]) -> None:
    names = Counter(trial.name for trial in trials)
    for trial in trials:
        check_name(trial.name, f"study {study}: trial")
        check_host_list(trial.hosts)
        if trial.name.startswith("."):
            raise UserError(f'study {study}: trial "{trial.name}": its name must not start with a dot')
        if names[trial.name] > 1:
            raise UserError(f'study {study}: two trials have the name "{trial.name}"')
        missing = [name for name in trial.after if name not in names]
        if missing:
            raise UserError(f'study {study}: trial "{trial.name}" depends on "{missing[0]}", which does not exist')
    try:
        graphlib.TopologicalSorter({trial.name: trial.after for trial in trials}).prepare()
    except graphlib.CycleError as error:
        raise UserError(f"study {study}: trials depend on each other: {' -> '.join(error.args[1])}") from None


def _plain(value: Any) -> Any:
    """Convert content to JSON types: each part with its `kind`, a picture without its bytes."""
    if dataclasses.is_dataclass(value):
        inner = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__.lower(), **inner}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return None if isinstance(value, bytes) else value


def _trusted(name: str, path: Path) -> str:
    """The name of a study that a file states, which may come from somebody else.

    Raises:
        UserError: it is "package.module:STUDY" of a module that is not installed. On the command line such a module is
            imported from the current folder; to show a study, this would execute code that the file chooses.
    """
    module, colon, _ = name.partition(":")
    if colon and not targets.is_installed(module):
        raise UserError(
            f"{path / STUDY} names {name}, and {module} is not installed: if you trust this module of the current "
            "folder, set PYTHONPATH=."
        )
    return name
