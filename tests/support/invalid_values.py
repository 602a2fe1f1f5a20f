"""Fields of a settings class, and values that each field must refuse, derived from the types.

scikit-learn tests the parameters of its estimators in this way. A field that accepts one of these values needs a
narrower type.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from distdl.core.hosts import HostList
from distdl.core.names import Name
from distdl.core.patterns import Pattern

OF_COMPONENT = ("nope", "", "a:b", "\x1b[31m", "a\0b")
INJECTED = ("a b", "a\nb", "a\0b", "\x1b[31m", "$(id)", "`id`", "a;b", "a'b", "\u00fc")
OF_TYPE = {
    Name.__metadata__[0]: (*INJECTED, "", ".", "..", "a/b", "../a", "a" * 81),
    Pattern.__metadata__[0]: ("-x", "--out=elsewhere", "-", "a\0b"),
    HostList.__metadata__[0]: (*INJECTED, "-oX=y", "a slots=9\nroot@b", "::1%$(id)", "a:2", "a,a", "n[1-"),
}
"""Invalid values of the types of text with rules."""
NAN, INFINITY = float("nan"), float("inf")


def fields(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and types of the fields of a dataclass and of its sections, with their ranges."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            yield from fields(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint


def invalid(kind: Any, metadata: tuple[Any, ...] = ()) -> Iterator[Any]:
    """TOML values that a field of this type must refuse."""
    yield from out_of_range(kind, metadata)
    yield from of_wrong_type(kind, metadata)


def out_of_range(kind: Any, metadata: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Values that a field of this type must refuse in a TOML file, and as text on a command line."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from out_of_range(inner[0], (*metadata, *kind.__metadata__))
    elif origin in (typing.Union, types.UnionType):
        yield from out_of_range(inner[0])
    elif origin is Mapping:
        yield from ("text", ["a.b"], [".b=1"])
    elif origin is Literal:
        yield from ("nope", "", "\x1b[31m", f"{inner[0]}x", 10**30, INFINITY)
    elif origin is tuple:
        yield from (row for row in _lists(inner, out_of_range))
        yield from ([] for limit in _limits(metadata, "min_length") if limit)
        yield from (() if inner[-1] is ... else ([valid(part) for part in (*inner, inner[0])],))
    elif dataclasses.is_dataclass(kind):
        yield from ()  # a command line has no tables
    elif kind is bool:
        yield from ("nope", "")
    elif kind is str and any(isinstance(each, AfterValidator) for each in metadata):
        yield from next((OF_TYPE[each] for each in metadata if each in OF_TYPE), OF_COMPONENT)
    elif kind in (str, Path):
        yield "a\0b"
        yield from ("",) if kind is Path or _limits(metadata, "min_length") else ()
    elif kind in (int, float):
        yield from ("many", "", "\x1b[31m", NAN, INFINITY, -INFINITY)
        yield from ((0.5, 10**30, -(10**30)) if kind is int else (10**400,))
        yield from _outside(metadata)
    else:
        raise AssertionError(f"no invalid values are known for the type {kind}: add them here")


def of_wrong_type(kind: Any, metadata: tuple[Any, ...] = ()) -> Iterator[Any]:
    """TOML values of other types than that of a field; as text some of them would be valid."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from of_wrong_type(inner[0], (*metadata, *kind.__metadata__))
    elif origin in (typing.Union, types.UnionType):
        yield from of_wrong_type(inner[0])
    elif origin is Mapping:
        yield from (3, [3], ["a=1"], {"a": 1})
    elif origin is Literal:
        yield from ([inner[0]], 0.5)
        yield from (str(inner[0]),) if isinstance(inner[0], int) else (3, True)
    elif origin is tuple:
        yield from ("text", 3, {"a": 1})
        yield from _lists(inner, of_wrong_type)
    elif dataclasses.is_dataclass(kind):
        yield from ("text", 3, [3], {}, {"nope": 1}, *_tables(kind))
    elif kind is bool:
        yield from (1, 0.5, "yes", [True], {"a": 1})
    elif kind in (str, Path):
        yield from (3, 0.5, True, ["a"], {"a": "b"})
    else:
        yield from ("3", True, [3], {"a": 3})


def valid(kind: Any) -> Any:
    """A value that a field of this type accepts; ranges contain 0.5 and 1."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Annotated, typing.Union, types.UnionType):
        return valid(inner[0])
    if origin is Literal:
        return inner[0]
    if origin is tuple:
        return [valid(part) for part in inner if part is not ...]
    return {str: "a", Path: "a", bool: True, int: 1}.get(kind, 0.5)


def as_arguments(value: Any) -> list[str] | None:
    """The value as command-line arguments; None if a command line cannot express it."""
    if isinstance(value, list):
        texts = [as_arguments(each) for each in value]
        return None if None in texts else [text for each in texts for text in each or ()]
    return None if isinstance(value, bool | dict) else [str(value)]


def _lists(parts: tuple[Any, ...], values: Callable[[Any], Iterator[Any]]) -> Iterator[list[Any]]:
    """Lists with one of these values."""
    parts = parts[:1] if parts[-1] is ... else parts
    for place, part in enumerate(parts):
        for value in values(part):
            row = [valid(each) for each in parts]
            row[place] = value
            yield row


def _tables(kind: Any) -> Iterator[dict[str, Any]]:
    """Tables of a dataclass with one invalid value."""
    hints = dict(fields(kind))
    for name, hint in hints.items():
        for value in invalid(hint):
            yield {other: valid(each) for other, each in hints.items()} | {name: value}


def _limits(metadata: tuple[Any, ...], name: str) -> list[Any]:
    limits = [limit for each in metadata for limit in (each, *getattr(each, "metadata", ()))]
    return [getattr(limit, name) for limit in limits if getattr(limit, name, None) is not None]


def _outside(metadata: tuple[Any, ...]) -> Iterator[float]:
    """Numbers just outside of a range. A number without a lower limit is a count, which is not negative."""
    yield from _limits(metadata, "gt")
    yield from _limits(metadata, "lt")
    yield from (limit - 1 if limit - 1 != limit else limit * 1.001 for limit in _limits(metadata, "ge"))
    yield from (limit + 1 if limit + 1 != limit else limit * 1.001 for limit in _limits(metadata, "le"))
