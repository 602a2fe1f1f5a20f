"""Merge tables of a configuration: a profile over the profile that it extends, overrides over a profile."""

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distdl.core.kinds import KINDS

BATCH_FIELDS = {"batch_size", "global_batch"}
"""The two fields of `data` for the batch size: either one replaces the other of the layer below."""
TABLES = ("options",)
"""Fields whose value is a table."""


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A table of tables from values by dotted name."""
    table: dict[str, Any] = {}
    for name, value in overrides.items():
        *sections, key = name.split(".")
        functools.reduce(lambda inner, section: inner.setdefault(section, {}), sections, table)[key] = value
    return table


def leaves(
    table: Mapping[str, Any], prefix: str = "", *, tables: Collection[str] = TABLES, depth: int = 4
) -> Iterator[tuple[str, Any]]:
    """Dotted name and value of each field of a table of tables; names that are dotted already stay.

    Args:
        tables: names of fields whose value is a table.
        depth: tables below this many levels count as values.
    """
    for name, value in table.items():
        if isinstance(value, Mapping) and depth and prefix + name not in tables:
            yield from leaves(value, f"{prefix}{name}.", tables=tables, depth=depth - 1)
        else:
            yield prefix + name, value


def layered(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the table of a configuration with overriding values.

    Settings of components that `over` replaces by others are omitted.
    """
    if isinstance(options := base.get("options"), Mapping):
        replaced = set(_replaced(base, over))
        base = {**base, "options": {key: table for key, table in options.items() if key not in replaced}}
    data = over.get("data", {})
    if isinstance(data, Mapping) and BATCH_FIELDS & data.keys():
        others = {key: value for key, value in base.get("data", {}).items() if key not in BATCH_FIELDS}
        base = {**base, "data": others}
    return merge(base, over)


def _replaced(base: Mapping[str, Any], over: Mapping[str, Any]) -> Iterator[str]:
    """Keys in `options` of the components that `base` names and `over` replaces."""
    for kind in KINDS.values():
        previous, current = _value(base, kind.where), _value(over, kind.where)
        if kind.several and isinstance(previous, list | tuple) and isinstance(current, list | tuple):
            yield from (name for name in previous if name not in current)
        elif not kind.several and previous is not None and current not in (None, previous):
            yield kind.name


def _value(table: Any, name: str) -> Any:
    """The value of a dotted name in a table of tables; None if there is none."""
    for key in name.split("."):
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables of tables; a value of `over` replaces that of `base`."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = merge(base[key], value) if both else value
    return merged
