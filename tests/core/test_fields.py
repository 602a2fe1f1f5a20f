"""A wrong value for any field of `Config`, in a profile or on the command line, is one line that names it."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tomli_w
from pydantic import AfterValidator

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import read_profile, validate
from distdl.core.validation import check


def fields(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and types of fields, with their ranges."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            yield from fields(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint


def bounds(metadata: tuple[Any, ...]) -> Iterator[float]:
    """Numbers just outside of a range."""
    for field in metadata:
        for bound in getattr(field, "metadata", ()):
            for name, step in (("gt", 0), ("ge", -1), ("lt", 0), ("le", 1)):
                if (limit := getattr(bound, name, None)) is not None:
                    yield limit + step if not step or limit + step != limit else limit * (1 + 1e-9)


def wrong(kind: Any, metadata: tuple[Any, ...] = ()) -> Iterator[Any]:
    """TOML values that a field of this type does not accept."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from wrong(inner[0], kind.__metadata__)
    elif origin is Mapping:
        yield from ("text", 3, {"a": 1}, ["a=1"], ["a.b"], [".b=1"])
    elif kind is str and any(isinstance(each, AfterValidator) for each in metadata):
        yield from ("nope", "", "a:b", 3, True, ["sgd"])
    elif origin is Literal:
        yield from ("nope", "", 3, True, [inner[0]])
    elif origin in (typing.Union, types.UnionType):
        yield from (value for value in wrong(inner[0]) if value is not None)
    elif origin is tuple:
        yield from ("text", 3, {"a": 1})
        parts = inner[:1] if inner[-1] is ... else inner
        for place, part in enumerate(parts):
            for value in wrong(part):
                row = [right(other) for other in parts]
                row[place] = value
                yield row
        if inner[-1] is not ...:
            yield from ([], [right(part) for part in (*inner, inner[0])])
    elif kind is bool:
        yield from (1, 0.5, "yes", [True], {"a": 1})
    elif kind in (str, Path):
        yield from (3, 0.5, True, ["a"], {"a": "b"})
    else:
        yield from ("many", "3", True, [3], {"a": 3}, float("nan"), float("inf") if metadata else float("-nan"))
        yield from ((0.5, 10**30) if kind is int else ())
        yield from bounds(metadata)


def right(kind: Any) -> Any:
    while typing.get_origin(kind) in (Annotated, tuple):
        kind = typing.get_args(kind)[0]
    return {str: "a", bool: True}.get(kind, 0.5)


def as_text(value: Any) -> str | None:
    """The value as an argument of a command line; None if a command line cannot give it."""
    return None if isinstance(value, bool | dict | list) else str(value)


def table(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


ROWS = [(name, value) for name, hint in fields(Config) for value in wrong(hint)]


def test_every_field_has_wrong_values() -> None:
    assert len({name for name, _ in ROWS}) == len(list(fields(Config))) > 100
    assert len(ROWS) > 700


def check_message(message: str, name: str) -> None:
    assert name in message.replace("-", "_") and message.isprintable(), message
    assert "Input should" not in message and " has no effect" not in message, message


@pytest.mark.parametrize("name", [name for name, _ in fields(Config)])
def test_a_wrong_value_in_a_profile_names_the_field(name: str) -> None:
    for value in (value for field, value in ROWS if field == name):
        Path("wrong.toml").write_bytes(tomli_w.dumps(table(name, value)).encode())
        with pytest.raises(UserError) as error:
            validate(read_profile("wrong.toml")[0], where="wrong.toml")
        check_message(str(error.value), name)


TYPED = [name for name, hint in fields(Config) if hint not in (str, bool, Path | None, tuple[str, ...])]
"""Fields that do not accept every text."""


@pytest.mark.parametrize("name", TYPED)
def test_a_wrong_text_names_the_field(name: str) -> None:
    """The validation receives text from a command line."""
    for value in (value for field, value in ROWS if field == name and str(value) != "3"):
        if (text := as_text(value)) is not None:
            with pytest.raises(UserError) as error:
                check(Config, table(name, text))
            check_message(str(error.value), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPED)
def test_a_wrong_value_on_the_command_line_names_the_field(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    for value in (value for field, value in ROWS if field == name and str(value) != "3"):
        if (text := as_text(value)) is not None:
            argv = [f"{flag}={text}"]
            with pytest.raises(UserError) as error:
                from_command_line(argv, strategy="ps")
            check_message(str(error.value), name)
