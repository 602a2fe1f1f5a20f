"""The verb `distdl list`: which components there are, by kind, those of other packages included."""

from typing import Literal

import tyro

from distdl.core import registry
from distdl.core.console import PlainConsole
from distdl.core.errors import EXIT_DONE, UserError

Group = Literal[
    "models",
    "datasets",
    "losses",
    "metrics",
    "strategies",
    "loaders",
    "optimizers",
    "schedules",
    "augmentations",
    "trackers",
    "launchers",
    "studies",
]


def list_components(kind: tyro.conf.Positional[Group], pattern: tyro.conf.Positional[str] = "*") -> int:
    """List components by kind: models, datasets, losses, metrics, strategies, loaders, optimizers, ...

    Args:
        kind: what to list.
        pattern: shell pattern that the names match, such as 'resnet*'; quote it.
    """
    found = registry.names(kind, pattern)
    if not found:
        raise UserError(f"no {registry.KINDS[kind].name} matches {pattern!r} (distdl list {kind} shows all)")
    rows = registry.rows(kind)
    width = max(map(len, found))
    console = PlainConsole(soft_wrap=True)
    for name in found:
        summary = rows[name].summary if name in rows else ""
        console.print(f"{name:<{width}}  {summary}".rstrip())
    return EXIT_DONE


def list_models(pattern: tyro.conf.Positional[str] = "*") -> int:
    """List the networks that model.name takes.

    Args:
        pattern: shell pattern that the names match, such as 'resnet*'; quote it.
    """
    return list_components("models", pattern)
