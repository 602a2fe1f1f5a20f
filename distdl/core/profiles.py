"""From a profile and overrides to one valid `Config`, and back to a profile.

A profile is TOML: the fields of `Config`, and `extends = "NAME or FILE"` to start from another. Overrides are values by
dotted field name. `distdl.cli.recipe` makes both from a command line, and launchers write a command line from them.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from distdl.core.conditions import check_options, unused
from distdl.core.config import ComponentOptions, Config
from distdl.core.errors import UserError, as_literal, nearest, shortened
from distdl.core.layering import BATCH_FIELDS, TABLES, layered, leaves, merge, nested
from distdl.core.renamed import current_name, current_names
from distdl.core.userfiles import read_toml
from distdl.core.validation import check

DEFAULT_PROFILE = "digits"
INVOCATION = ("out", "resume")
"""Fields of one call, not of the training: omitted from config.toml of the run folder."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training as the user requests it: a profile, and fields that override it. Nothing is checked yet."""

    profile: str = DEFAULT_PROFILE
    """Name of a profile, or a file."""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values by dotted name of a field of `Config`: {"optim.lr": 0.1}. Numbers may be text."""

    def updated(self, overrides: Mapping[str, Any]) -> "Recipe":
        """This recipe with further overrides, which replace its own."""
        overridden = dict(self.overrides)
        if any(f"data.{name}" in overrides for name in BATCH_FIELDS):
            overridden = {
                name: value for name, value in overridden.items() if name.removeprefix("data.") not in BATCH_FIELDS
            }
        overridden |= {name: _table(name, overridden[name]) for name in TABLES if name in overridden}
        overrides = {**overrides, **{name: _table(name, overrides[name]) for name in TABLES if name in overrides}}
        return dataclasses.replace(self, overrides=merge(overridden, overrides))


def profiles(kind: str = "training") -> dict[str, Any]:
    """Names and files of the profiles that ship with distdl."""
    folder = resources.files("distdl.profiles") / kind
    return {Path(file.name).stem: file for file in sorted(folder.iterdir(), key=lambda file: file.name)}


def resolve(recipe: Recipe, *, strategy: str) -> Config:
    """The configuration of a training.

    Args:
        strategy: the strategy that `strategy = "auto"` selects in this process.
    Raises:
        UserError: for a wrong key, type, range, profile or combination, and for a field that would have no effect.
    """
    base, profile_keys = read_profile(recipe.profile)
    config = validate(base, where=f'profile "{recipe.profile}"')
    overrides = {current_name(name): value for name, value in recipe.overrides.items()}
    overrides |= {name: _table(name, overrides[name]) for name in TABLES if name in overrides}
    given = set(overrides)
    if given:
        table = nested(overrides)
        _forbid_unknown(table, "")
        config = check(Config, layered(dataclasses.asdict(config), table))
    # A value that is the default has no effect either: the profile that a run folder keeps has every field.
    changed = (profile_keys | given) & set(_changed(Config(), config))
    for name, why in unused(config, strategy if config.strategy == "auto" else config.strategy).items():
        for key in sorted(changed):
            if key == name or key.startswith(name + "."):
                raise UserError(f"{key} has no effect: {why}; remove it or change that")
    check_options(config)
    return config


def read_profile(name: str) -> tuple[dict[str, Any], set[str]]:
    """The table of a profile, merged with the profiles that it extends, and the dotted keys that it sets itself.

    Raises:
        UserError: for an unknown name, a file that is not TOML, an unknown key, or a profile that extends itself.
    """
    return _read(name, parent=None, seen=())


def _read(name: str, parent: Path | None, seen: tuple[str, ...]) -> tuple[dict[str, Any], set[str]]:
    file = _find(name, parent)
    if str(file) in seen:
        raise UserError(f'profile "{name}" extends itself: {" -> ".join([*seen, str(file)])}')
    where = str(file) if isinstance(file, Path) else f'profile "{name}"'
    table = current_names(read_toml(file, "profile file"), where)
    extends = table.pop("extends", None)
    if extends is not None and not isinstance(extends, str):
        raise UserError(f"{where}: extends: {as_literal(extends)} is not the name of a profile or a file")
    _forbid_unknown(table, where)
    given = {name for name, _ in leaves(table)}
    if extends is not None:
        base, _ = _read(extends, file.parent if isinstance(file, Path) else None, (*seen, str(file)))
        table = layered(base, table)
    return table, given


def _find(name: str, parent: Path | None) -> Any:
    """A packaged profile by name, or a file: a name with a slash or .toml, relative to the file that extends it."""
    if "/" in name or name.endswith(".toml"):
        beside = parent / name if parent else Path(name)
        return beside if os.path.lexists(beside) else Path(name)
    known = profiles()
    if name not in known:
        listed = nearest(name, known)
        raise UserError(f'profile "{shortened(name)}" is not known{listed} (distdl train --list shows all)')
    return known[name]


def validate(table: Mapping[str, Any], where: str) -> Config:
    """Convert the table of a profile to a `Config`, with types and ranges checked.

    Raises:
        UserError: for the first wrong field, with its value and what is allowed.
    """
    return check(Config, current_names(table), where=where, strict=True)


def _forbid_unknown(table: Mapping[str, Any], where: str) -> None:
    known = set(field_names(Config))
    sections = {name.split(".", 1)[0] for name in known if "." in name} | {"data.augment"}
    for key, _ in leaves(table):
        if key not in known:
            hint = "; it is a section, not a value" if key in sections else nearest(key, known)
            place = f"{where}: " if where else ""
            raise UserError(f'{place}"{shortened(key)}" is not a key of distdl{hint}')


def _table(name: str, value: Any) -> Mapping[str, Any]:
    """The value of a field of `TABLES`: a table, or the texts of a command line."""
    return check(ComponentOptions, value, name)


def field_names(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields of a configuration, including those of its sections."""
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from field_names(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _changed(old_config: Any, new_config: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(old_config):
        old, new = getattr(old_config, field.name), getattr(new_config, field.name)
        if dataclasses.is_dataclass(old):
            yield from _changed(old, new, f"{prefix}{field.name}.")
        elif old != new:
            yield prefix + field.name


def as_table(config: Config, strategy: str) -> dict[str, Any]:
    """The configuration as the table of a profile: fields with a value and an effect, without those of one call."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if inner is not None}
        if isinstance(value, tuple | list):
            return [plain(inner) for inner in value]
        return str(value) if isinstance(value, Path) else value

    table = plain(dataclasses.asdict(config))
    for name in (*INVOCATION, *unused(config, strategy)):
        section, _, key = name.rpartition(".")
        within = functools.reduce(lambda inner, part: inner.get(part, {}), filter(None, section.split(".")), table)
        within.pop(key, None)
    return table
