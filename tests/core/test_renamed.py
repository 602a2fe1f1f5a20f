"""Old names of fields in profiles, on the command line and in recipes."""

import os
import sys
from pathlib import Path

import pytest

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.profiles import Recipe, field_names, resolve
from distdl.core.renamed import MODULES, RENAMED, current_names
from repository import ROOT
from terminal import run

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
    with pytest.warns(FutureWarning, match=r"^--optim.lr.batch is now --optim.lr.reference.batch"):
        config = from_command_line(form.split(), strategy="single")
    assert config.optim.lr_reference_batch == 256


def test_an_old_override_works_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="schedule.rise is now"):
        config = resolve(Recipe(overrides={"schedule.name": "onecycle", "schedule.rise": 0.5}), strategy="single")
    assert config.schedule.warmup_fraction == 0.5


def test_other_names_do_not_change() -> None:
    table = {"optim": {"lr": 0.1}, "options": {"model": {"rise": 1}}, "name": "x"}
    assert current_names(table) == table


OPTIONS = {
    "--optim.lr-batch 256": ("--optim.lr-batch", "--optim.lr-reference-batch"),
    "--optim.lr_batch=256": ("--optim.lr_batch", "--optim.lr_reference_batch"),
    "--schedule.rise 0.2": ("--schedule.rise", "--schedule.warmup_fraction"),
    "--ps.survive": ("--ps.survive", "--ps.tolerate_worker_loss"),
    "--ps.no-survive": ("--ps.no-survive", "--ps.no-tolerate-worker-loss"),
}
"""The old and the new option that the warning names, by the arguments."""


def terminal_lines(argv: list[str]) -> list[str]:
    """Lines of a call on a terminal. The call ends with an error, so that nothing is trained."""
    code, text = run([sys.executable, "-m", "distdl.train", *argv, "--epochs", "0"])
    *lines, last = text.splitlines()
    assert (code, last) == (2, "error: epochs = 0: must be greater than 0"), text
    return lines


def test_the_terminal_names_each_old_option_in_one_line() -> None:
    assert {old.split(".", 1)[1].replace("-", "_") for old, _ in OPTIONS.values()} >= {
        name.split(".")[1] for name in RENAMED
    }
    argv = [part for argument in OPTIONS for part in argument.split()]
    assert terminal_lines(argv) == [
        f"warning: {old} is now {new}; the old name stops working in 0.3" for old, new in OPTIONS.values()
    ]


def test_the_terminal_names_the_file_of_each_old_key_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text("".join(f"{old} = {value}\n" for old, value in VALUES.items()))
    assert terminal_lines(["--profile", str(file)]) == [
        f"warning: {file}: {old} is now {new}; the old name stops working in 0.3" for old, new in RENAMED.items()
    ]


def test_only_one_rank_shows_the_warning() -> None:
    argv = [sys.executable, "-m", "distdl.train", "--optim.lr-batch", "8", "--epochs", "0"]
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    code, text = run(argv, environ={**os.environ, **place, "RANK": "1", "LOCAL_RANK": "1"})
    assert code == 2 and "warning" not in text


@pytest.mark.parametrize("old", [*RENAMED, *MODULES])
def test_upgrading_lists_every_old_name(old: str) -> None:
    text = (ROOT / "UPGRADING.md").read_text(encoding="utf-8")
    assert f"| `{old}` | `{RENAMED[old]}` |" in text if old in RENAMED else f"| `{old}` |" in text
