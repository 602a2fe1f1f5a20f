"""From a profile and command-line words to one valid `Config`, and back to a profile.

A profile is TOML: the fields of `Config`, and `extends = "NAME or FILE"` to start from another. The command line starts
from the profile in turn: `--profile NAME|FILE [--optim.lr 0.1 ...]`.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distdl.cli import tyro_cli
from distdl.config import Config, unused
from distdl.errors import UserError, nearest

DEFAULT_PROFILE = "digits"
NO_BATCH = {"batch_size": None, "global_batch": 0}
"""The two fields of `data` that give the batch size, only one of which is given, without a value."""
INVOCATION = ("out", "resume")
"""Fields that belong to one call, not to a training: left out of the profile that a run folder keeps."""


def profiles(kind: str = "training") -> dict[str, Any]:
    """Names of the profiles that ship with distdl, and their files."""
    folder = resources.files("distdl.profiles") / kind
    return {Path(file.name).stem: file for file in sorted(folder.iterdir(), key=lambda file: file.name)}


def from_command_line(words: Sequence[str], *, strategy: str, prog: str = "distdl.train") -> Config:
    """The configuration that `--profile` and the overrides ask for.

    Args:
        words: command-line words after the program's name.
        strategy: what `strategy = "auto"` comes to in this process.
    Raises:
        UserError: for a wrong key, type, range, profile or combination, and for a field that would have no effect.
    """
    profile, rest = _take_option(list(words), "--profile", DEFAULT_PROFILE)
    table, given = read_profile(profile)
    base = validate(table, where=f'profile "{profile}"')
    config = base
    if rest:
        description = "Train an image classifier. Every field's default is the profile's: --profile NAME|FILE first."
        # Without the profile's batch size: either of the two fields replaces whichever of them the profile gives.
        default = dataclasses.replace(base, data=dataclasses.replace(base.data, **NO_BATCH))
        changed = dataclasses.asdict(tyro_cli(Config, rest, default=default, prog=prog, description=description))
        if NO_BATCH.items() <= changed["data"].items():
            changed["data"] |= {name: getattr(base.data, name) for name in NO_BATCH}
        config = validate(changed, where="the command line")
        given = given | set(_changed(base, config))
    # A value that is the default anyway says nothing: the profile that a run folder keeps has every field.
    said = given & set(_changed(Config(), config))
    for name, why in unused(config, strategy if config.strategy == "auto" else config.strategy).items():
        for key in sorted(said):
            if key == name or key.startswith(name + "."):
                raise UserError(f"{key} has no effect: {why}; leave it out, or change that")
    return config


def read_profile(name: str) -> tuple[dict[str, Any], set[str]]:
    """A profile's table with those that it extends merged in, and the dotted keys that it sets itself.

    Raises:
        UserError: for an unknown name, a file that is not TOML, a key that `Config` does not have, a circle.
    """
    return _read(name, parent=None, seen=())


def _read(name: str, parent: Path | None, seen: tuple[str, ...]) -> tuple[dict[str, Any], set[str]]:
    file = _find(name, parent)
    if str(file) in seen:
        raise UserError(f'profile "{name}" extends itself: {" -> ".join([*seen, str(file)])}')
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    extends = table.pop("extends", None)
    _forbid_unknown(table, where=str(file) if isinstance(file, Path) else f'profile "{name}"')
    given = set(_leaves(table))
    if extends is not None:
        base, _ = _read(extends, file.parent if isinstance(file, Path) else None, (*seen, str(file)))
        if any(f"data.{name}" in given for name in NO_BATCH):
            base["data"] = {key: value for key, value in base.get("data", {}).items() if key not in NO_BATCH}
        table = _merge(base, table)
    return table, given


def _find(name: str, parent: Path | None) -> Any:
    """A packaged profile by name, or a file: a name with a slash or .toml is a file, relative to the one extending."""
    if "/" in name or name.endswith(".toml"):
        for folder in [parent, Path()] if parent else [Path()]:
            if (folder / name).is_file():
                return folder / name
        raise UserError(f"there is no profile file {name}")
    known = profiles()
    if name not in known:
        raise UserError(f'profile "{name}" is not known{nearest(name, known)} (distdl train --list shows all)')
    return known[name]


def validate(table: Mapping[str, Any], where: str) -> Config:
    """The table as a `Config`, types and ranges checked.

    Raises:
        UserError: naming the first field that is wrong, what it holds and what it may hold.
    """
    try:
        return TypeAdapter(Config).validate_python(dict(table))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        what = f"{key} = {first['input']!r}: {message}" if key and not key.endswith("__post_init__") else message
        raise UserError(f"{where}: {what}") from None


def _forbid_unknown(table: Mapping[str, Any], where: str) -> None:
    known = set(field_names(Config))
    sections = {name.split(".", 1)[0] for name in known if "." in name} | {"data.augment"}
    for key in _leaves(table):
        if key not in known:
            hint = "; it is a section, not a value" if key in sections else nearest(key, known)
            raise UserError(f'{where}: "{key}" is not a key of distdl{hint}')


def field_names(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of a configuration's fields, sections walked through."""
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from field_names(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _changed(before: Any, after: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(old):
            yield from _changed(old, new, f"{prefix}{field.name}.")
        elif old != new:
            yield prefix + field.name


def _take_option(words: list[str], option: str, default: str) -> tuple[str, list[str]]:
    """The value of `option` (`--option value` or `--option=value`, the last one given) and the words without it."""
    value, rest = default, []
    iterator = iter(words)
    for word in iterator:
        if word == option:
            value = next(iterator, "")
            if not value or value.startswith("--"):
                raise UserError(f"{option} needs a name or a file")
        elif word.startswith(option + "="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return value, rest


def as_table(config: Config, strategy: str) -> dict[str, Any]:
    """The configuration as a profile's table: every field that has a value and an effect, but for those of one call."""

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
