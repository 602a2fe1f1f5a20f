"""Conversion of a recipe to arguments of distdl.train and back: every field of the configuration keeps its value."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from distdl.cli.recipe import from_command_line, recipe
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.layering import leaves
from distdl.core.profiles import Recipe, field_names
from distdl.core.validation import check
from distdl.launchers.job import arguments

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
ITEM = TEXT.filter(lambda text: not text.startswith("-"))
"""Element of a list. A text that starts with - would be read as an option."""
KEY = st.text("abcxyz_-", min_size=1).filter(lambda text: not text.startswith("-"))
NAMES = {
    "strategy": ["auto", "ddp", "ps"],
    "loss": ["cross-entropy", "some.package:loss"],
    "metrics": ["some.package:metric"],
    "trackers": ["tensorboard", "some.package:tracker"],
    "data.loader": ["auto", "torch", "some.package:loader"],
    "data.augment.extra": ["some.package:augmentation"],
    "optim.name": ["sgd", "adam", "some.package:optimizer"],
    "schedule.name": ["cosine", "some.package:schedule"],
}
"""Names of components, which are checked."""


def hints(kind: type, prefix: str = "") -> dict[str, Any]:
    """Types of all fields by dotted name."""
    rows: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        rows |= hints(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {prefix + name: hint}
    return rows


HINTS = hints(Config)
DEFAULTS = dict(leaves(dataclasses.asdict(Config())))


def values(name: str, hint: Any, text: st.SearchStrategy[str] = TEXT) -> st.SearchStrategy[Any]:
    """Values of a field's type, also outside of its range."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return values(name, inner[0], text)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(name, part, text) for part in inner])
    if origin is Mapping:
        return st.dictionaries(KEY, st.dictionaries(KEY, TEXT, min_size=1, max_size=2), max_size=2)
    if origin is tuple:
        if inner[-1] is ...:
            return st.lists(values(name, inner[0], ITEM), max_size=3).map(tuple)
        return st.tuples(*(values(name, part, ITEM) for part in inner))
    if hint is str and name in NAMES:
        return st.sampled_from(NAMES[name])
    return {
        str: text,
        Path: text.map(Path),
        bool: st.booleans(),
        int: st.integers(-3, 3) | st.integers(),
        float: st.floats(0, 0.9) | st.floats(allow_nan=False),
        types.NoneType: st.none(),
    }[hint]


def _is_valid(hint: Any, value: Any) -> bool:
    try:
        check(hint, value)
    except UserError:
        return False
    return True


def test_all_fields_are_covered() -> None:
    assert HINTS.keys() == set(field_names(Config))


@settings(max_examples=20)
@given(data=st.data())
def test_every_field_keeps_its_value(data: st.DataObject) -> None:
    raw = {name: data.draw(values(name, hint), name) for name, hint in HINTS.items()}
    overrides = {name: value if _is_valid(HINTS[name], value) else DEFAULTS[name] for name, value in raw.items()}
    parsed = recipe(arguments(Recipe(profile="mnist-cnn", overrides=overrides)))
    given = {
        name: value for name, value in overrides.items() if name != "options" or value
    }  # no options give no argument
    assert parsed.profile == "mnist-cnn" and parsed.overrides.keys() == given.keys()
    for name, hint in ((name, HINTS[name]) for name in given):
        assert check(hint, parsed.overrides[name], name) == check(hint, overrides[name], name)


def test_none_replaces_a_value_of_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[data]\nroot = "/data"\n')
    argv = arguments(Recipe(profile=str(file), overrides={"data.root": None}))
    assert from_command_line(argv[:2], strategy="single").data.root == Path("/data")
    assert from_command_line(argv, strategy="single").data.root is None


def test_a_profile_whose_path_begins_with_a_hyphen_is_no_option() -> None:
    Path("-x").mkdir()
    Path("-x/p.toml").write_text('extends = "digits"\n')
    argv = arguments(Recipe(profile="-x/p.toml", overrides={"seed": 3}))
    assert recipe(argv).profile == "-x/p.toml"
    assert from_command_line(argv, strategy="single").seed == 3
