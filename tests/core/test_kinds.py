"""The table of component kinds: keys, and existence of the named fields, classes and functions."""

import dataclasses
import typing

import pytest

from distdl.core import targets
from distdl.core.components import COMPONENTS
from distdl.core.config import Config
from distdl.core.kinds import KINDS, Kind

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def test_each_kind_has_a_unique_key_and_name() -> None:
    assert all(group == kind.group for group, kind in KINDS.items())
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS) == 12
    assert set(COMPONENTS) <= set(KINDS)


@each_kind
def test_the_setting_for_the_name_is_a_field_or_an_option(kind: Kind) -> None:
    where: typing.Any = Config
    if kind.group in ("launchers", "studies"):  # an option of `distdl launch`, an argument of `distdl study run`
        return
    for part in kind.where.split("."):
        fields = {field.name for field in dataclasses.fields(where)}
        assert part in fields, kind.where
        where = typing.get_type_hints(where)[part]
    assert (typing.get_origin(where) is tuple) is kind.several


@each_kind
def test_only_rows_of_some_kinds_list_fields(kind: Kind) -> None:
    rows = COMPONENTS.get(kind.group, {})
    assert kind.fields or not any(row.uses for row in rows.values())


@each_kind
def test_the_objects_that_a_kind_names_can_be_imported(kind: Kind) -> None:
    for target in filter(None, (kind.makes, kind.open)):
        pytest.importorskip("torch", reason="PyTorch is not installed")
        assert targets.load(target, kind.where) is not None


@pytest.mark.parametrize(
    ("group", "label", "of_a_package"),
    [
        ("optimizers", 'optim.name: "a"', 'optim.name: "a" of p'),
        ("launchers", 'launcher "a"', 'launcher "a" of p'),
        ("studies", 'study "a"', 'study "a" of p'),
    ],
)
def test_a_component_is_named_by_its_field_or_its_kind(group: str, label: str, of_a_package: str) -> None:
    assert KINDS[group].label("a") == label
    assert KINDS[group].label("a", "p") == of_a_package
