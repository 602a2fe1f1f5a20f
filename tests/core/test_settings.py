"""Settings of components: options converted by the annotations or defaults of the callable's parameters."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distdl.core.contracts import ComponentError
from distdl.core.errors import UserError
from distdl.core.kinds import KINDS
from distdl.core.settings import Parameters

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
    "gamma": st.floats(allow_nan=False),
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
