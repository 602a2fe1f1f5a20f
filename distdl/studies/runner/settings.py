"""From a study's defaults, its quick version, a profile and key=value words to one valid value of its settings."""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distdl.core.errors import UserError, nearest, shortened
from distdl.core.profiles import profiles
from distdl.core.text import printable
from distdl.core.userfiles import read_toml
from distdl.core.validation import check
from distdl.studies.base import Study

PROFILE = "profile"
"""A field of this name is a training profile: `--profile` gives it where no profile of the study has that name."""


def resolve(study: Study, *, profile: str = "", said: Sequence[str] = (), quick: bool = False) -> Any:
    """A value of `study.settings`: defaults, then quick's, the profile's and `said`, the last one winning.

    Args:
        profile: a TOML file of the study's fields, by path or as NAME of profiles/studies/STUDY-NAME.toml.
        said: "key=value"; several values of one field have commas between.
    Raises:
        UserError: for an unknown key or profile, and for a value of a wrong type or out of range.
    """
    table: dict[str, Any] = dict(study.quick) if quick else {}
    if profile:
        table |= _profile(study, profile)
        validate(study, table, where=f"profile {profile}")
    for word in said:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f'--set "{word}" has no value: write key=value')
        key = key.replace("-", "_")
        _known(study, key, "--set")
        table[key] = _value(typing.get_type_hints(study.settings)[key], value)
    return validate(study, table, where=f"study {study.name}")


def validate(study: Study, table: Mapping[str, Any], where: str) -> Any:
    """The table as a value of `study.settings`.

    Raises:
        UserError: naming the first field that is wrong.
    """
    for key in table:
        _known(study, key, where)
    return check(study.settings, dict(table), where=where)


def as_table(settings: Any) -> dict[str, Any]:
    """Settings as TOML holds them. A field that is None is left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(inner) for key, inner in value.items() if inner is not None}
        if isinstance(value, tuple | list):
            return [plain(inner) for inner in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(settings))


def fields(study: Study) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(study.settings))


def _known(study: Study, key: str, where: str) -> None:
    if key not in fields(study):
        hint = nearest(key, fields(study))
        raise UserError(
            f'{where}: "{printable(shortened(key))}" is not a setting of study {study.name}{hint} '
            f"(distdl study run {study.name} --help shows all)"
        )


def _profile(study: Study, name: str) -> dict[str, Any]:
    own = {stem.removeprefix(f"{study.name}-"): file for stem, file in study_profiles(study).items()}
    is_file = "/" in name or name.endswith(".toml")
    file = Path(name) if is_file else own.get(name)
    if PROFILE in fields(study) and (file is None or _is_training(file)):
        return {PROFILE: name}
    if file is None:
        hint = f": it has {', '.join(own)}" if own else ", which has none"
        raise UserError(f'study {study.name} has no profile "{name}"{nearest(name, own)}{hint}')
    return read_toml(file, "profile file")


def study_profiles(study: Study) -> dict[str, Any]:
    """Files of profiles/studies/ that are this study's: STUDY.toml and STUDY-NAME.toml."""
    try:
        known = profiles("studies")
    except FileNotFoundError:
        return {}
    return {stem: file for stem, file in known.items() if stem == study.name or stem.startswith(f"{study.name}-")}


def _is_training(file: Any) -> bool:
    """Whether a file holds a training's sections, which no study's settings are."""
    return any(key in read_toml(file, "profile file") for key in ("extends", "data", "model", "optim"))


def _value(kind: Any, text: str) -> Any:
    """Text of the command line as validation takes it: several values where the field holds several."""
    if text == "none" and types.NoneType in typing.get_args(kind):
        return None
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    several = any(typing.get_origin(option) in (tuple, list) for option in options)
    said: Any = [part.strip() for part in text.split(",")] if several and text else [] if several else text
    try:
        TypeAdapter(kind).validate_python(said)
    except ValidationError:
        # A choice among numbers is not taken from text.
        return [_number(part) for part in said] if several else _number(said)
    return said


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
