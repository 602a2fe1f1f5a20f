"""Run a study's trials in sequence within a test: trainings as forked ranks, calls in this process."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path

from distdl.core.config import Config
from distdl.core.files import write_json
from distdl.core.profiles import resolve
from distdl.launchers.job import arguments
from distdl.studies.base import TRAIN, Outcome, Study, Trial
from distdl.studies.runner.folder import StudyFolder
from jobs import train


def kinds(trials: list[Trial]) -> list[Trial]:
    """Select one training per set of overridden fields."""
    return list({tuple(trial.recipe.overrides): trial for trial in trials}.values())


def configuration(trial: Trial) -> Config:
    """The configuration of a training on one device."""
    return resolve(trial.recipe, strategy="single")


def check_chain(trials: list[Trial]) -> None:
    """Assert that names are unique, dependencies come first, and each training is valid and has a number of steps."""
    names = [trial.name for trial in trials]
    assert len(set(names)) == len(names)
    for number, trial in enumerate(trials):
        assert set(trial.after) <= set(names[:number])
    for trial in kinds([trial for trial in trials if trial.call == TRAIN]):
        assert configuration(trial).max_steps > 0


def _placed(trials: list[Trial], path: Path) -> list[Trial]:
    """Replace {study} in the trials, as the runner does."""
    study = Study(name="made", summary="", settings=dict, quick={}, trials=lambda _: trials, findings=lambda *_: [])
    return StudyFolder(path, study, {}).trials


def run_inline(trials: list[Trial], study: Path, env: Mapping[str, str]) -> dict[str, Outcome]:
    """Run `trials`, sorted by their dependencies, in the study folder."""
    outcomes = {}
    for trial in _placed(trials, study):
        assert all(outcomes[name].completed for name in trial.after)
        folder = study / "trials" / trial.name
        if trial.call == TRAIN:
            train(arguments(trial.recipe.updated({"out": folder})), env=env)
        else:
            folder.mkdir(parents=True)
            module, _, name = trial.call.partition(":")
            write_json(folder / "result.json", getattr(importlib.import_module(module), name)(folder, trial.settings))
        result = json.loads((folder / "result.json").read_text())
        outcomes[trial.name] = Outcome(trial=trial, folder=folder, status="completed", result=result)
    return outcomes
