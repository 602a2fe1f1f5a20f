"""A study's trials one after the other in this test: trainings as forked ranks, calls in this process."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from distdl.core.files import write_json
from distdl.studies.base import Outcome, Trial
from jobs import train


def kinds(trials: list[Trial]) -> list[Trial]:
    """One training of each set of options: as configurations they differ in values alone."""
    return list({tuple(word for word in trial.words if word.startswith("--")): trial for trial in trials}.values())


def run_here(trials: list[Trial], study: Path, env: Mapping[str, str]) -> dict[str, Outcome]:
    """Do `trials`, which stand in an order that they can be done in, in the study's folder."""
    outcomes = {}
    for trial in trials:
        assert all(outcomes[name].completed for name in trial.after)
        folder = study / "trials" / trial.name
        words = tuple(word.replace("{study}", str(study)) for word in trial.words)
        if words:
            quiet = [word for pair in _pairs(words) if pair[0] != "--telemetry.hz" for word in pair]
            train([*quiet, "--out", str(folder)], env=env)
        else:
            folder.mkdir(parents=True)
            module, _, name = trial.call.partition(":")
            write_json(folder / "result.json", getattr(importlib.import_module(module), name)(folder, trial.settings))
        result = json.loads((folder / "result.json").read_text())
        outcomes[trial.name] = Outcome(
            trial=replace(trial, words=words), folder=folder, status="completed", result=result
        )
    return outcomes


def _pairs(words: tuple[str, ...]) -> list[list[str]]:
    """Each option with its values."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return groups
