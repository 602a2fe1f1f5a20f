"""Check values against a type, and describe the first wrong one: the same message for profiles and command lines."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticCustomError, SchemaValidator
from pydantic_core.core_schema import no_info_before_validator_function

from distdl.core.errors import UserError, as_literal, nearest, shortened

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "dict": "a section",
    "dataclass": "a section",
}
"""Kinds of values by the first part of pydantic's error types int_type, int_parsing, int_from_float, ..."""
_LIMITS = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be finite",
    "int_parsing_size": "is too large",
    "too_long": "has more than {max_length} values",
    "too_short": "has fewer than {min_length} values",
    "missing": "has too few values",
}
_ALTERNATIVES = {"bool", "int", "float", "str", "tuple", "list", "dict"}
"""Alternatives of a union, which pydantic adds to the location of an error."""
_BOUNDS: dict[Any, dict[str, Any]] = {"float": {"allow_inf_nan": False}, "int": {"ge": -(2**63), "lt": 2**63}}
_VALUES = ("default", "expected", "metadata")
"""Keys of a schema whose value is no schema."""


def check(kind: Any, value: Any, name: str = "", *, where: str = "", strict: bool = False) -> Any:
    """Convert a value to a type.

    No text may contain a zero byte: paths cannot, and nothing else needs one. Unless the type states another range,
    numbers are finite and integers have 64 bits; a path is not empty.

    Args:
        kind: a type, or a dataclass of which `value` is the table.
        name: of the value, for the message; for a table the name of its field is added.
        where: the file with the value, for the message.
        strict: do not convert text to numbers or numbers to booleans: TOML and JSON have these types.
    Raises:
        UserError: the first wrong value and what is allowed. Ranges of fields come before rules on several fields.
    """
    prefix = f"{where}: " if where else ""
    for key, text in _texts(value, name):
        if "\0" in text:
            raise UserError(f"{prefix}{key}: {as_literal(text)} contains a zero byte")
    validator = _validator(kind) if isinstance(kind, type) else _new_validator(kind)
    try:
        if strict:
            return validator.validate_json(json.dumps(value, default=str), strict=True)
        return validator.validate_python(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = min(errors, key=lambda each: each["type"] == "value_error")
        raise UserError(prefix + _describe(first, name)) from None
    except RecursionError:
        raise UserError(f"{prefix}{name or 'a value'}: lists or sections are nested too deeply") from None


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, with the names of their fields."""
    pending = [(name, value)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, str | Path):
            yield name, str(value)
        elif isinstance(value, Mapping):
            pending += [(name, key) for key in value]
            pending += [(f"{name}.{key}" if name else str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(name, inner) for inner in value]


def not_empty(value: Any) -> Any:
    """A value that is not the empty text."""
    if value == "":
        raise PydanticCustomError("string_too_short", "is empty")
    return value


@functools.cache
def _validator(kind: type) -> SchemaValidator:
    return _new_validator(kind)


def _new_validator(kind: Any) -> SchemaValidator:
    try:
        adapter = TypeAdapter(kind)
    except PydanticSchemaGenerationError:  # a class that pydantic does not know, as in float | torch.Tensor
        adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    return SchemaValidator(_bounded(adapter.core_schema))


def _bounded(schema: Any) -> Any:
    """A schema of pydantic with `_BOUNDS` for the types that state no range, and without empty paths.

    pydantic has such a default for floats only, and none for the dataclasses of other packages.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(_bounded(each) for each in schema)
    if not isinstance(schema, dict):
        return schema
    inner = {key: value if key in _VALUES else _bounded(value) for key, value in schema.items()}
    bounded: Any = {**_BOUNDS.get(schema.get("type"), {}), **inner}
    return no_info_before_validator_function(not_empty, bounded) if _is_path(schema) else bounded


def _is_path(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "lax-or-strict" and schema["lax_schema"].get("custom_error_type") == "path_type"


def _describe(error: Mapping[str, Any], name: str) -> str:
    path = [
        part for part in error["loc"] if isinstance(part, str) and part.isidentifier() and part not in _ALTERNATIVES
    ]
    name = ".".join([*filter(None, [name]), *path])
    kind, value, context = error["type"], as_literal(error["input"]), error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "component":
        return f"{name}: {context['reason']}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'|(\d+)", context["expected"])
        names = [text or number for text, number in choices]
        listed = ", ".join(repr(text) if text else number for text, number in choices)
        return f"{name}: {value} is not one of {listed}{nearest(str(error['input']), names)}"
    if kind == "string_too_short":
        return f"{name} is empty"
    if kind == "missing" and isinstance(error["loc"][-1], str):
        return f"missing {name}"
    if kind in _LIMITS:  # a number may be text
        number = shortened(error["input"]) if isinstance(error["input"], str) else value
        return f"{name} = {number}: {_LIMITS[kind].format(**context)}"
    if (wanted := _KINDS.get(kind.partition("_")[0])) is not None:
        return f"{name}: {value} is not {wanted}"
    return f"{name} = {value}: {error['msg']}"
