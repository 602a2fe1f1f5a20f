"""Fields of the configuration that have no effect under the choices that were made."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distdl.core import registry
from distdl.core.components import COMPONENTS
from distdl.core.errors import UserError, nearest

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
    for group in ("strategies", "losses", "optimizers", "schedules"):
        kind = registry.KINDS[group]
        name = strategy if group == "strategies" else _value(config, kind.where)
        used = registry.find(group, name).uses
        subject = "the strategy" if group == "strategies" else kind.where
        for field in _without_effect(config, group, used):
            fields[field] = f"{subject} is {name}"
    for condition in CONDITIONS:
        if condition.useless(config):
            fields[condition.field] = condition.reason.format(config)
    return fields


def check_options(config: "Config") -> None:
    """Raise a UserError for a key of `options` that belongs to no component of the configuration."""
    keys: list[str] = []
    for kind in registry.KINDS.values():
        if kind.where.startswith("-") or " " in kind.where:
            continue  # a launcher or a study: no field of the configuration
        keys += _value(config, kind.where) if kind.several else [kind.name]
    for key in config.options:
        if key not in keys:
            raise UserError(f"options.{key}: no component of this configuration has this key{nearest(key, keys)}")


def _without_effect(config: "Config", group: str, used: tuple[str, ...]) -> list[str]:
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
