"""Components by name: models, data sets, losses, strategies, loaders, optimizers, trackers, launchers, studies, ...

A name is a row of `core/components.py`, an entry point of another package (group `distdl.optimizers`, `distdl.models`,
...), or itself "package.module:callable". A row is text: nothing is imported before a component is used, so that a
configuration can be checked, and components listed, without torch. `core/factories.py` imports and calls components.

A name of distdl's own is never replaced by that of another package. If several packages offer one name, using it is
an error.
"""

import functools
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from distdl.core import renamed
from distdl.core.errors import UserError, nearest
from distdl.core.kinds import KINDS, Row
from distdl.core.targets import TARGET, is_installed, is_usable, load, no_module, no_target

Options = Mapping[str, Any]
"""Settings of one component that are not fields of `Config`."""
NO_OPTIONS: Options = MappingProxyType({})


def rows(group: str) -> dict[str, Row]:
    """The rows of a kind by name: those that ship with distdl, then those of other packages.

    Rows of other packages are not imported: they have only a factory and the package as summary.
    """
    shipped = _shipped(group)
    others = {name: _listed(entries) for name, entries in _entries(group).items() if name not in shipped}
    return {**shipped, **others}


def hidden(group: str) -> list[str]:
    """Sentences about components of other packages that cannot be used by name because it is one of distdl's own."""
    shipped = _shipped(group)
    return [
        f'{KINDS[group].name} "{name}" of {_package(entry)} is hidden by distdl\'s own: use {entry.value}'
        for name, entries in _entries(group).items()
        for entry in entries
        if name in shipped and entry.value != shipped[name].factory
    ]


def find(group: str, name: str) -> Row:
    """The row of a name, or one for "package.module:callable". A component of another package is imported.

    Raises:
        UserError: there is none (the message has the nearest name), several packages offer it, or it cannot be
            imported.
    """
    shipped, kind = _shipped(group), KINDS[group]
    if name in shipped:
        return shipped[name]
    where = kind.where
    if TARGET.fullmatch(name):
        row = Row(factory=name)
    elif entries := _entries(group).get(name):
        if len({entry.value for entry in entries}) > 1:
            raise UserError(f"{kind.label(name)} is {_several(entries)}: remove one, or write package.module:callable")
        row, where = _listed(entries), kind.label(name, _package(entries[0]))
    else:
        raise UserError(f"{kind.where}: {unknown(group, name)}")
    loaded = load(row.factory, where, functools.partial(is_usable, kind))
    row = loaded if isinstance(loaded, Row) else row
    if row.uses and not kind.fields:
        raise UserError(f"{kind.where}: {name} states `uses`, which has no effect for a {kind.name}: remove it")
    return row


def unknown(group: str, name: str) -> str:
    """The reason why a name is not a component: what it could be, the nearest name first."""
    kind = KINDS[group]
    if ":" in name or "/" in name or name.endswith(".py"):
        return no_target(name)
    known = [*kind.others, *rows(group)]
    listed = ", ".join(map(repr, known)) or "an installed component (there is none)"
    return f"{name!r} is not one of {listed}, nor package.module:callable{nearest(name, known)}"


def _shipped(group: str) -> dict[str, Row]:
    """The rows of distdl's own components, without a search for installed packages."""
    from distdl.core.components import COMPONENTS

    return COMPONENTS[group]


def is_shipped(group: str, row: Row) -> bool:
    """Whether a row is one of distdl's own."""
    return row in _shipped(group).values()


def require_installed(group: str, name: str, row: Row) -> None:
    """Check, without importing it, that the package which a component needs is installed.

    Raises:
        UserError: it is not installed; with the command that installs it.
    """
    if row.requires and not is_installed(row.requires):
        how = f"; it comes with: {row.install}" if row.install else ""
        raise UserError(f"{KINDS[group].where}: {name} needs {row.requires}, which is not installed{how}")


def names(group: str, pattern: str = "*") -> list[str]:
    """Names of a kind that a shell pattern matches, distdl's own first."""
    import fnmatch

    kind = KINDS[group]
    known = [*rows(group), *(load(kind.open, kind.where)() if kind.open else ())]
    return [name for name in dict.fromkeys(known) if fnmatch.fnmatchcase(name, pattern)]


def known_in(group: str) -> AfterValidator:
    """Validator of a name of this kind, for the type of a field: Annotated[str, known_in("optimizers")]."""
    return AfterValidator(functools.partial(_known, group))


def _known(group: str, name: str) -> str:
    if new := renamed.COMPONENTS.get((group, name)):
        renamed.warn_renamed(KINDS[group].label(name), new, FutureWarning)
        return new
    if name in KINDS[group].others or name in _shipped(group):
        return name
    if TARGET.fullmatch(name):
        if reason := no_module(name):
            raise PydanticCustomError("component", "{reason}", {"reason": reason})
    elif name not in _entries(group):
        raise PydanticCustomError("component", "{reason}", {"reason": unknown(group, name)})
    return name


def _entries(group: str) -> dict[str, list[EntryPoint]]:
    by_name: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=f"distdl.{group}"):
        # A package that is found twice on the path (an editable and a built install) counts once.
        if entry not in by_name.setdefault(entry.name, []):
            by_name[entry.name].append(entry)
    return by_name


def _listed(entries: list[EntryPoint]) -> Row:
    """The row of an entry point that is not imported."""
    if len({entry.value for entry in entries}) > 1:
        return Row(factory=entries[0].value, summary=f"{_several(entries)}: remove one")
    return Row(factory=entries[0].value, summary=f"from {_package(entries[0])}")


def _several(entries: Iterable[EntryPoint]) -> str:
    return "offered by " + " and ".join(f"{_package(entry)} ({entry.value})" for entry in entries)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "another package"
