"""Old names of fields in profiles, on the command line and in recipes."""

from pathlib import Path

import pytest

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.profiles import Recipe, field_names, resolve
from distdl.core.renamed import RENAMED, current_names

VALUES = {"optim.lr_batch": "256", "schedule.rise": "0.25", "ps.survive": "true"}
NEEDED = {
    "schedule.rise": 'schedule.name = "onecycle"\n',
    "ps.survive": 'strategy = "ps"\nps.mode = "async"\n',
}


def test_new_names_are_fields_and_old_names_are_not() -> None:
    assert set(RENAMED.values()) <= set(field_names(Config))
    assert not RENAMED.keys() & set(field_names(Config))
    assert VALUES.keys() == RENAMED.keys()


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_in_a_profile_works_with_a_warning(old: str, tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text(f"{NEEDED.get(old, '')}{old} = {VALUES[old]}\n")
    with pytest.warns(FutureWarning, match=f"{old} is now {RENAMED[old]}"):
        config = resolve(Recipe(profile=str(file)), strategy="single")
    section, field = RENAMED[old].split(".")
    assert str(getattr(getattr(config, section), field)).lower() == VALUES[old]


@pytest.mark.parametrize("form", ["--optim.lr-batch 256", "--optim.lr_batch=256"])
def test_an_old_option_works_with_a_warning(form: str) -> None:
    with pytest.warns(FutureWarning, match="optim.lr_batch is now optim.lr_reference_batch"):
        config = from_command_line(form.split(), strategy="single")
    assert config.optim.lr_reference_batch == 256


def test_an_old_override_works_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="schedule.rise is now"):
        config = resolve(Recipe(overrides={"schedule.name": "onecycle", "schedule.rise": 0.5}), strategy="single")
    assert config.schedule.warmup_fraction == 0.5


def test_other_names_do_not_change() -> None:
    table = {"optim": {"lr": 0.1}, "options": {"model": {"rise": 1}}, "name": "x"}
    assert current_names(table) == table
