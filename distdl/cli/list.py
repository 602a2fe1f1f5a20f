"""The verbs `distdl list` and `distdl models list`: components by kind, including those of other packages."""

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import tyro

from distdl.core import registry
from distdl.core.console import PlainConsole
from distdl.core.errors import EXIT_DONE, UserError
from distdl.core.kinds import KINDS

if TYPE_CHECKING:
    Group = str
else:
    Group = Literal[tuple(KINDS)]


def list_components(kind: tyro.conf.Positional[Group | None] = None, pattern: tyro.conf.Positional[str] = "*") -> int:
    """List components by kind: models, datasets, losses, metrics, strategies, loaders, optimizers, ...

    Args:
        kind: what to list; by default the kinds.
        pattern: shell pattern that the names match, such as 'resnet*'; quote it.
    """
    if kind is None:
        PlainConsole().print_rows([(each.group, f"for {each.where}") for each in KINDS.values()])
        return EXIT_DONE
    if kind == "models":
        return list_models(pattern)
    if kind == "studies":
        return list_studies(pattern)
    rows = registry.rows(kind)
    _print(
        kind, pattern, [(name, rows[name].summary if name in rows else "") for name in registry.names(kind, pattern)]
    )
    return EXIT_DONE


def list_studies(pattern: tyro.conf.Positional[str] = "*") -> int:
    """List the studies: distdl's own and those of other packages.

    Args:
        pattern: shell pattern that the names match, such as 's*'; quote it.
    """
    _print("studies", pattern, [(name, _study(name)) for name in registry.names("studies", pattern)])
    return EXIT_DONE


def _study(name: str) -> str:
    row = registry.rows("studies")[name]
    if registry.is_shipped("studies", row):
        return row.summary
    from distdl.studies.runner import catalog

    try:
        return catalog.find(name).summary or row.summary
    except UserError as error:
        return f"broken: {error}"


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
        raise UserError(f"no {KINDS[kind].name} matches {pattern!r} (distdl list {kind} shows all)")
    PlainConsole().print_rows(lines)
    for sentence in registry.hidden(kind):
        PlainConsole(stderr=True).print(f"warning: {sentence}", soft_wrap=True)
