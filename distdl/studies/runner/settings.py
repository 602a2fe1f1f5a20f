"""Settings of a study from its defaults, its quick version, a profile and key=value assignments."""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distdl.core.config import Config
from distdl.core.errors import UserError, nearest, shortened
from distdl.core.layering import TABLES, leaves
from distdl.core.profiles import Recipe, field_names, profiles
from distdl.core.renamed import RENAMED
from distdl.core.text import print_line, printable
from distdl.core.userfiles import read_toml
from distdl.core.validation import check
from distdl.studies.base import Overrides, Study

PROFILE = "profile"
"""A field of this name is a training profile: `--profile` sets it if no profile of the study has that name."""


def resolve(study: Study, *, profile: str = "", assignments: Sequence[str] = (), quick: bool = False) -> Any:
    """Build the settings from defaults, the quick version, a profile and assignments; later sources win.

    Args:
        profile: a TOML file of the study's fields, by path or as NAME of profiles/studies/STUDY-NAME.toml.
        assignments: "key=value"; several values of one field are separated by commas. For a field of
            type `Overrides`, "overrides.optim.lr=0.1" sets one value and keeps the others.
    Raises:
        UserError: for an unknown key or profile, and for a value of a wrong type or out of range.
    """
    table: dict[str, Any] = dict(study.quick) if quick else {}
    if profile:
        table |= current_names(study, _profile(study, profile), f"profile {profile}")
        validate(study, table, where=f"profile {profile}", strict=True)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f'--set "{assignment}" has no value: write key=value')
        key, _, option = key.replace("-", "_").partition(".")
        key = _current(study, key, "--set")
        check_names(study, [key], "--set")
        kind = typing.get_type_hints(study.settings)[key]
        if kind == Overrides:
            previous = Recipe(overrides=dict(leaves(table.get(key, {}))))
            table[key] = previous.updated(_override(f"{key}.{option}", option, value)).overrides
        elif option:
            raise UserError(f"--set {key}.{option}: {key} is a value, not a section")
        else:
            table[key] = _value(kind, value)
    return validate(study, table, where=f"study {study.name}")


def validate(study: Study, table: Mapping[str, Any], where: str, *, strict: bool = False) -> Any:
    """Convert a table to a value of `study.settings`.

    Args:
        strict: as for `distdl.core.validation.check`; for tables of TOML files.
    Raises:
        UserError: naming the first invalid field.
    """
    table = current_names(study, table, where)
    hints = typing.get_type_hints(study.settings)
    flat = {key: dict(leaves(value)) if _is_section(hints[key], value) else value for key, value in table.items()}
    settings = check(study.settings, flat, where=where, strict=strict)
    for key, kind in hints.items():
        if kind == Overrides:
            for option, value in getattr(settings, key).items():
                check(_kind(option, f"{where}: {key}"), value, f"{key}.{option}", where=where, strict=strict)
    return settings


def as_table(settings: Any) -> dict[str, Any]:
    """Convert settings to a TOML table, without fields that are None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(inner) for key, inner in value.items() if inner is not None}
        if isinstance(value, tuple | list):
            return [plain(inner) for inner in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(settings))


def fields(study: Study) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(study.settings))


def current_names(study: Study, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the table with current names instead of former ones.

    Raises:
        UserError: naming the first unknown setting.
    """
    current = {_current(study, key, where): value for key, value in table.items()}
    check_names(study, current, where)
    return current


def _current(study: Study, key: str, where: str) -> str:
    if key in study.renamed:
        print_line(f"warning: {where}: {key} is deprecated, use {study.renamed[key]}", to_stderr=True)
    return study.renamed.get(key, key)


def check_names(study: Study, keys: Iterable[str], where: str) -> None:
    """Check that the study has settings of these names.

    Raises:
        UserError: naming the first unknown setting.
    """
    names = fields(study)
    for key in keys:
        if key == "words" and "overrides" in names:  # plain: ok a setting of version 0.1
            raise UserError(
                f'{where}: the setting "{key}" of version 0.1 is now "overrides", values by name: start this study '
                "again in another --out, or finish it with distdl 0.1"
            )
        if key not in names:
            hint = nearest(key, names)
            raise UserError(
                f'{where}: "{printable(shortened(key))}" is not a setting of study {study.name}{hint} '
                f"(distdl study run {study.name} --help shows all)"
            )


def _is_section(kind: Any, value: Any) -> bool:
    return kind == Overrides and isinstance(value, Mapping)


def _override(name: str, field: str, text: str) -> dict[str, Any]:
    """A field of `Config` with a text of the command line, converted to its type."""
    if not field:
        raise UserError(f"--set {name} has no field: write {name}optim.lr=0.1")
    table, _, setting = field.partition(".")
    if table in TABLES:
        return {table: check(_kind(table, f"--set {name}"), [f"{setting}={text}" if setting else text], name)}
    kind = _kind(field, f"--set {name}")
    return {field: check(kind, _value(kind, text), name)}


def _kind(field: str, where: str) -> Any:
    """Type of a field of `Config`, with its range."""
    known = tuple(field_names(Config))
    field = str(RENAMED.get(field, field))
    if field not in known:
        raise UserError(f'{where}: "{printable(shortened(field))}" is not a key of distdl{nearest(field, known)}')
    kind: Any = Config
    for part in field.split("."):
        kind = typing.get_type_hints(kind, include_extras=True)[part]
    return kind


def _profile(study: Study, name: str) -> dict[str, Any]:
    by_name = {stem.removeprefix(f"{study.name}-"): file for stem, file in study_profiles(study).items()}
    is_file = "/" in name or name.endswith(".toml")
    file = Path(name) if is_file else by_name.get(name)
    if PROFILE in fields(study) and (file is None or _is_training(file)):
        return {PROFILE: name}
    if file is None:
        hint = f": it has {', '.join(by_name)}" if by_name else ", which has none"
        raise UserError(f'study {study.name} has no profile "{name}"{nearest(name, by_name)}{hint}')
    return read_toml(file, "profile file")


def study_profiles(study: Study) -> dict[str, Any]:
    """Return the profiles of this study, STUDY.toml and STUDY-NAME.toml in profiles/studies/, by file name."""
    try:
        known = profiles("studies")
    except FileNotFoundError:
        return {}
    return {stem: file for stem, file in known.items() if stem == study.name or stem.startswith(f"{study.name}-")}


def _is_training(file: Any) -> bool:
    """Whether a file has the sections of a training profile; no study has settings of these names."""
    return any(key in read_toml(file, "profile file") for key in ("extends", "data", "model", "optim"))


def _value(kind: Any, text: str) -> Any:
    """Convert text of the command line to the form that validation accepts: a list for a field with several values."""
    if text == "none" and types.NoneType in typing.get_args(kind):
        return None
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    several = any(typing.get_origin(option) in (tuple, list) for option in options)
    value: Any = [part.strip() for part in text.split(",")] if several and text else [] if several else text
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        # Validation does not convert text for a Literal of numbers.
        return [_number(part) for part in value] if several else _number(value)
    return value


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
