"""Command lines of trials, and the termination of their processes."""

import subprocess
from pathlib import Path

import psutil
import pytest

from distdl.cli.recipe import from_command_line
from distdl.core.profiles import resolve
from distdl.launchers.job import arguments
from distdl.studies.base import TRAIN
from distdl.studies.runner import catalog, process
from distdl.studies.runner.settings import resolve as settings_of
from inline_trials import kinds


@pytest.mark.parametrize("name", ["optimizers", "optimus", "scaling", "semisupervised", "transfer", "weak"])
def test_the_command_line_of_a_training_gives_its_configuration(name: str) -> None:
    study = catalog.find(name)
    trainings = [trial for trial in study.trials(settings_of(study, quick=True)) if trial.call == TRAIN]
    assert trainings
    for trial in kinds(trainings):
        strategy = "ddp" if trial.ranks > 1 else "single"
        expected = resolve(trial.recipe, strategy=strategy)
        assert from_command_line(arguments(trial.recipe), strategy=strategy) == expected


def test_a_process_that_ends_during_termination_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen(["sleep", "60"])
    seen = psutil.Process(child.pid)
    child.kill()
    child.wait()
    monkeypatch.setattr(psutil, "process_iter", lambda: [seen])
    monkeypatch.setattr(process, "_marked", lambda *_: True)
    process.clear(tmp_path)
