"""Parameters of a verb's function as options of the command line."""

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NotRequired, Required

POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
MAY_BE_EMPTY = "may be empty"
"""Marks an option that a script gives without a value if it has none. Other options with an empty value are refused."""


def any_number(hint: Any) -> bool:
    """Whether an option takes any number of values."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Annotated, Required, NotRequired):
        return any_number(inner[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(any_number, inner))
    return origin is list or (origin is tuple and ... in inner)


def flag_name(name: str, hint: Any) -> str | None:
    """The option of a parameter; None for a positional parameter."""
    import tyro

    markers = getattr(hint, "__metadata__", ())
    if tyro.conf.Positional in markers:
        return None
    renamed = next((marker.name for marker in markers if getattr(marker, "name", None)), name)
    return f"--{renamed.replace('_', '-')}"


def meaning(function: Callable[..., Any], name: str) -> str:
    """The description of a parameter in the docstring of a function, on one line."""
    text = inspect.getdoc(function) or ""
    described = re.search(rf"^    {name}: (.*(?:\n {{5,}}.*)*)", text, re.MULTILINE)
    return re.sub(r"(?<!\.)\.$", "", " ".join(described[1].split())) if described else "see --help"
