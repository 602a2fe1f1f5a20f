"""Tables of configurations over each other: a profile over another, a command line or Python over a profile."""

from pathlib import Path
from typing import Any

import pytest

from distdl.cli.recipe import from_command_line
from distdl.core.errors import UserError
from distdl.core.layering import layered, leaves, nested
from distdl.core.profiles import Recipe, resolve
from distdl.launchers.job import arguments
from distdl.studies.runner.catalog import find
from distdl.studies.runner.settings import resolve as resolve_study

PROFILE = """
extends = "./base.toml"
[options.loss]
gamma = 2
"json:dumps.url" = "kept"
[options.model]
depth = 3
"""
BASE = """
extends = "digits"
loss = "json:dumps"
trackers = ["json:dumps", "json:loads"]
[options.loss]
gamma = 1
alpha = 0.5
[options."json:dumps"]
url = "x"
"""
MERGED = {
    "loss": {"gamma": 2, "alpha": 0.5, "json:dumps.url": "kept"},
    "json:dumps": {"url": "x"},
    "model": {"depth": 3},
}
CHANGED = {**MERGED, "loss": {**MERGED["loss"], "gamma": "3", "beta": "1"}}
TEXTS = ["loss.gamma=3", "loss.beta=1"]


@pytest.fixture(autouse=True)
def profile() -> None:
    Path("base.toml").write_text(BASE)
    Path("mine.toml").write_text(PROFILE)


def from_arguments(*argv: str) -> Any:
    return from_command_line(["--profile", "./mine.toml", *argv], strategy="single").options


def test_options_are_merged_by_key_from_every_source() -> None:
    assert from_arguments() == MERGED
    assert from_arguments("--options", *TEXTS) == CHANGED
    assert from_arguments("--options", TEXTS[0], "--options", TEXTS[1]) == CHANGED
    recipe = Recipe(profile="./mine.toml", overrides={"options": TEXTS[:1]})
    for more in (TEXTS[1:], {"loss": {"beta": "1"}}):
        updated = recipe.updated({"options": more})
        assert resolve(updated, strategy="single").options == CHANGED
        assert from_command_line(arguments(updated), strategy="single").options == CHANGED
    assert resolve(recipe.updated({"epochs": 3}), strategy="single").options["loss"]["gamma"] == "3"


def test_the_profile_of_a_run_folder_is_overridden_by_key(tmp_path: Path) -> None:
    """A resume reads the configuration of the run folder, or that of the first start, and the new command line."""
    import tomli_w

    from distdl.core.profiles import as_table

    config = from_command_line(["--profile", "./mine.toml", "--options", *TEXTS], strategy="single")
    (tmp_path / "config.toml").write_bytes(tomli_w.dumps(as_table(config, "single")).encode())
    argv = ["--profile", "./config.toml", "--options", "loss.gamma=4"]
    resumed = from_command_line(argv, strategy="single").options
    assert resumed == {**CHANGED, "loss": {**CHANGED["loss"], "gamma": "4"}}


def test_overrides_of_a_study_are_merged_by_key() -> None:
    Path("study.toml").write_text("[overrides.options.loss]\ngamma = 1\nalpha = 0.5\n[overrides.optim]\nlr = 0.5\n")
    assignments = ["overrides.options.loss.gamma=3", "overrides.options=loss.beta=1"]
    settings = resolve_study(find("transfer"), profile="./study.toml", assignments=assignments)
    options = {"loss": {"gamma": "3", "alpha": 0.5, "beta": "1"}}
    assert settings.overrides == {"options": options, "optim.lr": 0.5}
    recipe = Recipe(profile="./mine.toml").updated(settings.overrides)
    assert resolve(recipe, strategy="single").options["loss"] == {**CHANGED["loss"], "alpha": 0.5}
    for wrong in ("overrides.options=loss", "overrides.options.loss=3", "overrides.options="):
        with pytest.raises(UserError, match=r"options: '.*' is not KEY\.NAME=VALUE"):
            resolve_study(find("transfer"), assignments=[wrong])


@pytest.mark.parametrize(
    ("argv", "keys"),
    [
        (["--loss", "cross-entropy"], {"json:dumps", "model"}),
        (["--loss", "json:dumps"], {"json:dumps", "model", "loss"}),
        (["--trackers", "json:loads"], {"model", "loss"}),
        (["--trackers", "json:dumps"], {"json:dumps", "model", "loss"}),
        (["--model.name", "softmax"], {"json:dumps", "loss"}),
        (["--epochs", "3"], {"json:dumps", "model", "loss"}),
    ],
)
def test_settings_of_a_replaced_component_are_omitted(argv: list[str], keys: set[str]) -> None:
    assert from_arguments(*argv).keys() == keys
    given = from_arguments(*argv, "--options", "loss.new=1")
    assert given["loss"].keys() == ({"new"} if "cross-entropy" in argv else {*MERGED["loss"], "new"})


def test_wrong_options_are_one_line() -> None:
    for value in (["a.b"], [".b=1"], 3, {"a": 1}):
        with pytest.raises(UserError, match=r"^options"):
            resolve(Recipe(overrides={"options": value}), strategy="single")
        with pytest.raises(UserError, match=r"^options"):
            Recipe(overrides={"options": ["a.b=1"]}).updated({"options": value})


def test_a_batch_size_replaces_the_other_one() -> None:
    base = {"data": {"global_batch": 64, "name": "x"}}
    assert layered(base, {"data": {"batch_size": 8}}) == {"data": {"batch_size": 8, "name": "x"}}
    assert layered(base, {"data": "wrong"}) == {"data": "wrong"}


def test_leaves_are_the_inverse_of_nested() -> None:
    table = {"a": 1, "b": {"c": 2, "d": {"e": [3]}}, "options": {"x": {"y": 1}}}
    flat = dict(leaves(table))
    assert flat == {"a": 1, "b.c": 2, "b.d.e": [3], "options": {"x": {"y": 1}}}
    assert nested(flat) == table


def test_tables_of_inner_sections_are_values() -> None:
    table = {"a": {"b": {"c": {"d": 1}}, "e": {"b": 2}}}
    assert dict(leaves(table, tables=("a.b",))) == {"a.b": {"c": {"d": 1}}, "a.e.b": 2}
    assert dict(leaves(table, tables=("a.b.c",))) == {"a.b.c": {"d": 1}, "a.e.b": 2}
    assert dict(leaves(table, tables=(), depth=1)) == {"a.b": {"c": {"d": 1}}, "a.e": {"b": 2}}
