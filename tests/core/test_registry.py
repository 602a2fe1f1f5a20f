"""Names of components: rows of distdl, entry points of other packages, and package.module:callable."""

import functools
import re
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from distdl.core import registry
from distdl.core.components import COMPONENTS
from distdl.core.conditions import CONDITIONS, unused
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import Recipe, field_names, resolve

REQUIRED = {"multistep": {"schedule.milestones": (3,)}}
"""Fields that a component requires."""


def test_every_kind_has_rows_and_every_row_names_fields() -> None:
    assert COMPONENTS.keys() == registry.KINDS.keys()
    known = {*field_names(Config), *(name.split(".")[0] for name in field_names(Config))}
    assert {name for rows in COMPONENTS.values() for row in rows.values() for name in row.uses} <= known
    assert {condition.field for condition in CONDITIONS} <= known


@pytest.mark.parametrize("group", ["optimizers", "schedules", "strategies", "losses"])
def test_a_field_that_only_other_components_use_is_an_error(group: str) -> None:
    """The table of rows is the table of fields without effect."""
    kind, rows = registry.KINDS[group], COMPONENTS[group]
    used = {name for row in rows.values() for name in row.uses}
    for name, row in rows.items():
        config = resolve(Recipe(overrides={kind.where: name, **REQUIRED.get(name, {})}), strategy="single")
        unused_fields = unused(config, name if group == "strategies" else "single")
        assert not set(row.uses) & unused_fields.keys()
        for field in used - set(row.uses):
            section = field.split(".")[0]
            assert (
                field in unused_fields
                or section in row.uses
                or any(key.startswith(f"{field}.") for key in unused_fields)
            ), field


def test_a_name_is_a_row_a_target_or_an_error() -> None:
    assert registry.find("optimizers", "sgd").factory == "distdl.optim.optimizers:sgd"
    assert registry.find("optimizers", "torch.optim:NAdam").factory == "torch.optim:NAdam"
    with pytest.raises(UserError, match=r'optim.name: optimizer "sgdd" is not known; did you mean "sgd"\?'):
        registry.find("optimizers", "sgdd")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adamm", "optim.name: 'adamm' is not one of 'sgd', 'adam'"),
        ("no.such:Adam", "optim.name: no.such:Adam cannot be imported: there is no module no.such"),
        ("torch.optim:", "optim.name: 'torch.optim:' is not one of"),
        ("os;x:y", "optim.name: 'os;x:y' is not one of"),
    ],
)
def test_a_wrong_name_is_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        resolve(Recipe(overrides={"optim.name": name}), strategy="single")


def test_a_failed_import_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^cannot import json:nothing: AttributeError: "):
        registry.load(registry.Row(factory="json:nothing"))


def open_factory(first: object, *, depth: int, width: float = 1.0, **more: str) -> dict[str, object]:
    """A component with a required setting, an optional one, and any others."""
    return {"depth": depth, "width": width, **more}


def strict_factory(first: object, depth: int = 1) -> int:
    """A component with one setting."""
    return depth


def test_settings_are_converted_by_the_parameters_of_the_factory() -> None:
    given = registry.settings(open_factory, {"depth": "3", "other": "x"}, "options.model", positional=1)
    assert given == {"depth": 3, "other": "x"}
    assert registry.settings(strict_factory, {"depth": 2}, "options.model", positional=1) == {"depth": 2}


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (open_factory, {"depth": "deep"}, "options.model.depth: 'deep' is not a whole number"),
        (open_factory, {}, "options.model.depth is missing"),
        (strict_factory, {"first": 1}, "options.model.first: there is no such setting"),
        (strict_factory, {"dept": 1}, 'options.model.dept: there is no such setting; did you mean "depth"?'),
    ],
)
def test_a_wrong_setting_is_one_line(factory: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        registry.settings(factory, options, "options.model", positional=1)


def test_other_packages_add_rows_and_replace_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint(name="nadam", value="json:dumps", group="distdl.optimizers"),
        EntryPoint(name="sgd", value="json:dumps", group="distdl.optimizers"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "distdl.optimizers" else [])
    assert registry.find("optimizers", "nadam").factory == "json:dumps"
    assert registry.find("optimizers", "sgd").factory == "distdl.optim.optimizers:sgd"
    assert set(registry.names("optimizers", "*ada*")) == {"adam", "adamw", "adagrad", "nadam"}
    assert resolve(Recipe(overrides={"optim.name": "nadam"}), strategy="single").optim.name == "nadam"


def test_a_configuration_is_checked_without_torch() -> None:
    code = (
        "import sys; from distdl.core.profiles import Recipe, resolve; from distdl.core import registry; "
        "resolve(Recipe(), strategy='ddp'); registry.rows('strategies'); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_options_are_a_table_of_tables_from_a_profile_and_from_texts() -> None:
    overrides = {"options": ["model.depth=3", "json:dumps.url=x=y"], "trackers": ["json:dumps"]}
    from_texts = resolve(Recipe(overrides=overrides), strategy="single")
    assert from_texts.options == {"model": {"depth": "3"}, "json:dumps": {"url": "x=y"}}
    from_table = resolve(Recipe(overrides={"options": {"model": {"depth": 3}}}), strategy="single")
    assert from_table.options == {"model": {"depth": 3}}


def test_an_entry_point_may_name_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="mine", value="optimizer_of_a_user:ROW", group="distdl.optimizers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == "distdl.optimizers" else [])
    assert registry.find("optimizers", "mine").uses == ("optim.momentum",)
    config = resolve(Recipe(overrides={"optim.name": "mine", "optim.momentum": 0.5}), strategy="single")
    assert config.optim.momentum == 0.5


def test_settings_of_a_partial_function_are_those_of_the_function() -> None:
    factory = functools.partial(strict_factory, depth=2)
    assert registry.settings(factory, {"depth": "3"}, "options.model", positional=1) == {"depth": 3}


def test_options_of_no_component_are_an_error() -> None:
    with pytest.raises(UserError, match=r"^options.modelx: no component .* did you mean \"model\"\?"):
        resolve(Recipe(overrides={"options": ["modelx.depth=3"]}), strategy="single")
