"""Fields of the configuration that have no effect under the choices that were made."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distdl.core import registry
from distdl.core.components import COMPONENTS
from distdl.core.errors import UserError, nearest
from distdl.core.kinds import KINDS, Kind

if TYPE_CHECKING:
    from distdl.core.config import Config


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A field that has an effect only under a condition on other fields."""

    field: str
    useless: Callable[["Config"], bool]
    """Predicate: the configuration makes this field useless."""
    reason: str
    """The choice that makes it useless; a format string with the configuration as {0}."""


CONDITIONS = (
    Condition(
        field="model.weights_part",
        useless=lambda config: config.model.weights == "none",
        reason="model.weights is none",
    ),
    Condition(
        field="data.normalize",
        useless=lambda config: bool(config.data.mean),
        reason="data.mean and data.std are given",
    ),
    Condition(
        field="data.augment.rotation_probability",
        useless=lambda config: not config.data.augment.rotation,
        reason="data.augment.rotation is 0",
    ),
    Condition(
        field="ps.staleness",
        useless=lambda config: config.ps.mode != "ssp",
        reason="ps.mode is {0.ps.mode}",
    ),
)


def unused(config: "Config", strategy: str) -> dict[str, str]:
    """Dotted names of fields and sections that have no effect, with the choice that makes them so.

    Args:
        strategy: the strategy that `auto` selects.
    """
    fields: dict[str, str] = {}
    chosen = {kind.group: name for kind, name in selected(config) if kind.fields} | {"strategies": strategy}
    used = {field for group, name in chosen.items() for field in _used(config, group, name)}
    for group, name in chosen.items():
        subject = "the strategy" if group == "strategies" else KINDS[group].where
        for field in _without_effect(config, group, used):
            fields[field] = f"{subject} is {name}"
    for condition in CONDITIONS:
        if condition.useless(config):
            fields[condition.field] = condition.reason.format(config)
    return fields


def selected(config: "Config") -> Iterator[tuple[Kind, str]]:
    """The components that a configuration names, except `auto`."""
    for kind in KINDS.values():
        if kind.is_field:
            value = _value(config, kind.where)
            yield from ((kind, name) for name in (value if kind.several else [value]) if name not in kind.others)


def check_options(config: "Config") -> None:
    """Raise a UserError for a key of `options` that belongs to no component of the configuration."""
    singular = [kind.name for kind in KINDS.values() if kind.is_field and not kind.several]
    require_keys(config.options, [*singular, *(name for kind, name in selected(config) if kind.several)])


def require_keys(options: Mapping[str, Any], keys: Collection[str]) -> None:
    """Raise a UserError for a key of `options` that is not one of `keys`."""
    for key in options:
        if key not in keys:
            listed = f"(keys: {', '.join(keys)})"
            raise UserError(f"options.{key}: no component here has this key{nearest(key, keys)} {listed}")


def _used(config: "Config", group: str, name: str) -> tuple[str, ...]:
    """The fields that a component uses.

    Raises:
        UserError: one of them, named by a row of another package, is not a field.
    """
    used = registry.find(group, name).uses
    for field in used:
        try:
            _value(config, field)
        except AttributeError:
            raise UserError(
                f"{KINDS[group].where}: {name} uses {field}, which is not a field of the configuration "
                "(distdl train --help lists them)"
            ) from None
    return used


def _without_effect(config: "Config", group: str, used: Collection[str]) -> list[str]:
    """Fields that rows of the kind use, but not the chosen one; a section of which nothing is used is named whole."""
    every = dict.fromkeys(name for row in COMPONENTS[group].values() for name in row.uses)
    useless: list[str] = []
    for name in every:
        if name in used:
            continue
        value = _value(config, name)
        if not dataclasses.is_dataclass(value):
            if name.rpartition(".")[0] not in used:
                useless.append(name)
            continue
        inner = [f"{name}.{field.name}" for field in dataclasses.fields(value)]
        rest = [field for field in inner if field not in used]
        useless += [name] if rest == inner else rest
    return useless


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config
