"""Parameters of a verb's function as options of the command line."""

import inspect
import types
import typing
from typing import Annotated, Any, NotRequired, Required

POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY


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
