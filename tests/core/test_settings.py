"""Settings of components: options converted by the annotations or defaults of the callable's parameters."""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from distdl.core.contracts import ComponentError
from distdl.core.errors import UserError
from distdl.core.kinds import KINDS
from distdl.core.profiles import Recipe, resolve
from distdl.core.settings import Parameters
from invalid_values import invalid, out_of_range

if TYPE_CHECKING:
    from pathlib import PurePath as ForCheckersOnly


def settings(call: Any, options: dict[str, Any], group: str = "strategies", **more: Any) -> dict[str, Any]:
    return Parameters(kind=KINDS[group], name="own:part", call=call).settings(options, **more)


def open_factory(first: object, *, depth: int, width: float = 1.0, **more: str) -> dict[str, object]:
    """A component with a required setting, an optional one, and any others."""
    return {"depth": depth, "width": width, **more}


def strict_factory(first: object, depth: int = 1) -> int:
    """A component with one setting."""
    return depth


def plain(first, gamma=2.0, depth=3, flip=False, note="x", betas=(0.9, 0.99), nothing=None, *, needed=1, **more):
    """A component without annotations."""


def untyped(first, gamma):
    """A component with a setting that has neither annotation nor default."""


def unusual(first, *, path: ForCheckersOnly | None = None, rate: float | torch.Tensor = 0.1, anything: Any = None):
    """A component with types that a profile does not have."""


def test_options_have_the_types_of_the_annotations() -> None:
    assert settings(open_factory, {"depth": "3", "other": "x"}) == {"depth": 3, "other": "x"}
    assert settings(strict_factory, {"depth": 2}) == {"depth": 2}
    assert settings(functools.partial(strict_factory, depth=2), {"depth": "3"}) == {"depth": 3}
    assert settings(unusual, {"rate": "0.5", "anything": "[1, 2]"}) == {"rate": 0.5, "anything": [1, 2]}


DEFAULTS = {
    "gamma": st.floats(allow_nan=False, allow_infinity=False),
    "depth": st.integers(-(2**60), 2**60),
    "flip": st.booleans(),
    "note": st.text().filter(lambda text: "\0" not in text),
    "betas": st.tuples(st.floats(0, 1), st.floats(0, 1)),
}


@given(st.fixed_dictionaries({}, optional=DEFAULTS))
def test_text_is_converted_to_the_type_of_the_default(values: dict[str, Any]) -> None:
    texts = {name: str(list(value)) if name == "betas" else str(value) for name, value in values.items()}
    assert settings(plain, texts) == values


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (open_factory, {"depth": "deep"}, "options.strategy.depth: 'deep' is not a whole number"),
        (
            open_factory,
            {},
            "options.strategy.depth is missing: own:part requires it; use --options strategy.depth=VALUE",
        ),
        (strict_factory, {"first": 1}, "options.strategy.first: own:part has no setting 'first' (its settings: depth)"),
        (strict_factory, {"dept": 1}, "options.strategy.dept: own:part has no setting 'dept'; did you mean \"depth\"?"),
        (plain, {"gamma": "much"}, "options.strategy.gamma: 'much' is not a number"),
        (plain, {"flip": "3"}, "options.strategy.flip: '3' is not true or false"),
        (plain, {"nothing": "3"}, "options.strategy.nothing: parameter 'nothing' of own:part has no type: annotate it"),
        (untyped, {"gamma": "2"}, "options.strategy.gamma: parameter 'gamma' of own:part has no type: annotate it"),
        (
            unusual,
            {"path": "x"},
            "options.strategy.path: the annotation 'ForCheckersOnly | None' in own:part is no type",
        ),
    ],
)
def test_an_invalid_setting_is_a_one_line_error(call: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        settings(call, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("group", [group for group, kind in KINDS.items() if kind.arguments])
def test_a_callable_must_accept_the_arguments_of_its_kind(group: str) -> None:
    kind = KINDS[group]
    written = ", ".join(kind.arguments)
    with pytest.raises(
        ComponentError, match=rf"^{re.escape(kind.where)}: own:part cannot be called with \({written}\)"
    ):
        settings(lambda: None, {}, group)
    with pytest.raises(ComponentError, match="has no signature that Python can read"):
        settings(type, {}, group)


@pytest.mark.parametrize("group", ["metrics", "augmentations"])
def test_the_error_for_a_function_instead_of_its_factory(group: str) -> None:
    """A user may give the augmentation instead of its factory."""
    with pytest.raises(
        UserError, match=rf"^options.own:part.images is missing: .* uses what it returns as {group[:-1]}\)"
    ):
        settings(lambda images, numbers: images, {}, group)


def test_parameters_that_distdl_sets_are_not_settings() -> None:
    assert settings(strict_factory, {}, named=["depth"]) == {}
    with pytest.raises(UserError, match="has no setting 'depth'"):
        settings(strict_factory, {"depth": 3}, named=["depth"])


BOUNDED = [int, float, Path, Annotated[float, Field(ge=0)], float | None, tuple[float, ...], tuple[int, float]]


def with_setting(kind: Any) -> Any:
    """A strategy of another package with one setting of a type."""

    def factory(config: object, *, value: Any = None) -> None:
        pass

    factory.__annotations__["value"] = kind
    return factory


def from_texts(value: Any) -> dict[str, Any]:
    text = value if isinstance(value, str) else json.dumps(value)
    return {"options": [f"strategy.value={text}"]}


@pytest.mark.parametrize("kind", BOUNDED, ids=str)
def test_a_setting_without_a_range_has_that_of_the_fields_of_distdl(kind: Any) -> None:
    """The check is the same for a command line, a profile and Python."""
    factory, profile = with_setting(kind), Path("mine.toml")
    values = [value for value in invalid(kind) if not isinstance(value, str) or value in list(out_of_range(kind))]
    for value in values:
        profile.write_bytes(tomli_w.dumps({"options": {"strategy": {"value": value}}}).encode())
        table = {"options": {"strategy": {"value": value}}}
        recipes = [Recipe(profile="./mine.toml"), Recipe(overrides=table)]
        if value in list(out_of_range(kind)) or value != value:
            recipes.append(Recipe(overrides=from_texts(value)))
        for recipe in recipes:
            with pytest.raises(UserError, match=r"strategy\.value") as caught:
                settings(factory, dict(resolve(recipe, strategy="single").options["strategy"]))
            assert "\n" not in str(caught.value) and "nput should" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Annotated[float, Field(allow_inf_nan=True)], math.inf),
        (Annotated[int, Field(lt=10**40)], 10**30),
        (Any, math.inf),
        (str, ""),
        (float, 1),
        (tuple[float, ...], [1, 0.5]),
        (dict[str, float] | None, {"a": 0.5}),
    ],
    ids=str,
)
def test_an_annotation_may_allow_more(kind: Any, value: Any) -> None:
    for option in (value, value if isinstance(value, str) else json.dumps(value)):
        checked = settings(with_setting(kind), {"value": option})["value"]
        assert checked == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", ["betas", "other"])
@pytest.mark.parametrize("value", [math.nan, [0.5, math.inf], {"a": [math.nan]}, 10**30], ids=str)
def test_a_setting_without_an_annotation_is_finite(name: str, value: Any) -> None:
    for option in (value, json.dumps(value)):
        with pytest.raises(UserError, match=rf"^options\.strategy\.{name}(\.a)?( =|:) "):
            settings(plain, {name: option})
