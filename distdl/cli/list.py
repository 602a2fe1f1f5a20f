"""The verbs `distdl list` and `distdl models list`: components by kind, including those of other packages."""

import fnmatch
from collections.abc import Sequence
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
    if kind == "models":
        return list_models(pattern)
    rows = registry.rows(kind)
    _print(
        kind, pattern, [(name, rows[name].summary if name in rows else "") for name in registry.names(kind, pattern)]
    )
    return EXIT_DONE


def list_models(pattern: tyro.conf.Positional[str] = "*") -> int:
    """List the networks that model.name accepts, with their parameters in millions.

    Parameters are those for 1,000 classes (torchvision's networks) or for 32 x 32 images of 10 classes (distdl's own).

    Args:
        pattern: shell pattern that the names match, such as 'resnet*'; quote it.
    """
    from distdl.models import build

    rows = {name: row for name, row in build.rows().items() if fnmatch.fnmatchcase(name, pattern)}
    lines = [(name, _millions(build.parameters(name)), row.summary) for name, row in rows.items()]
    _print("models", pattern, lines)
    return EXIT_DONE


def _millions(parameters: int | None) -> str:
    return f"{parameters / 1e6:7.2f} M" if parameters is not None else " " * 9


def _print(kind: str, pattern: str, lines: Sequence[tuple[str, ...]]) -> None:
    if not lines:
        raise UserError(f"no {registry.KINDS[kind].name} matches {pattern!r} (distdl list {kind} shows all)")
    width = max(len(name) for name, *_ in lines)
    console = PlainConsole(soft_wrap=True)
    for name, *cells in lines:
        console.print("  ".join([f"{name:<{width}}", *cells]).rstrip(), markup=False, highlight=False)
