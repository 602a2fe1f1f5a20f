"""Parameters of a verb's function as options of the command line."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NotRequired, Required

POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
MAY_BE_EMPTY = "may be empty"
"""Marks an option that a script gives without a value if it has none. Other options with an empty value are refused."""


def any_number(hint: Any) -> bool:
    """Whether an option takes any number of values."""
    return any(
        typing.get_origin(kind) is list or (typing.get_origin(kind) is tuple and ... in typing.get_args(kind))
        for kind in _alternatives(hint)
    )


def value_count(hint: Any) -> int:
    """Number of values of an option that does not take any number of them."""
    kinds = _alternatives(hint)
    return max(len(typing.get_args(kind)) if typing.get_origin(kind) is tuple else 1 for kind in kinds)


def _alternatives(hint: Any) -> Iterator[Any]:
    """The types of a union, or the only type, without markers."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Annotated, Required, NotRequired):
        yield from _alternatives(inner[0])
    elif origin in (typing.Union, types.UnionType):
        for each in inner:
            yield from _alternatives(each)
    else:
        yield hint


def option_of(argument: str) -> str:
    """The option of an argument, without its value: `--data.drop-last` for `--data.drop_last=...`."""
    return argument.partition("=")[0].replace("_", "-")


def switch_of(argument: str) -> str:
    """As `option_of`, and for `--data.no-drop-last`, which switches it off, too."""
    return re.sub(r"(^--|\.)no-", r"\1", option_of(argument))


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
