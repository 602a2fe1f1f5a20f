"""Components by name: models, data sets, losses, strategies, loaders, optimizers, trackers, launchers, studies, ...

A name stands for a row of `core/components.py`, for an entry point of another package (group `distdl.optimizers`,
`distdl.models`, ...), or is itself "package.module:callable". A row holds text only: nothing is imported before the
component is made, so that a configuration can be checked, and components listed, without torch.
"""

import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from distdl.core.errors import UserError, nearest

Options = Mapping[str, Any]
"""Settings of one component that are no fields of `Config`."""
NO_OPTIONS: Options = MappingProxyType({})
TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""A component that is no row: "package.module:callable"."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One component. An entry point may name a row, or the factory itself."""

    factory: str
    """ "package.module:attribute": what makes it."""
    summary: str = ""
    """One line for `distdl list`."""
    uses: tuple[str, ...] = ()
    """Fields or sections of `Config` that have an effect with this component, and none with those of its kind that do
    not list them."""
    traits: Mapping[str, Any] = field(default_factory=dict)
    """Properties that other parts of distdl read without importing the component."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of component."""

    name: str
    """Singular, and key of the component's settings in `Config.options`."""
    group: str
    """Plural: of `distdl list GROUP` and of the entry-point group `distdl.GROUP`."""
    where: str
    """Field of `Config`, or option, that takes the name."""
    others: tuple[str, ...] = ()
    """Further values of that setting: "auto"."""
    open: str = ""
    """"package.module:function" that returns further names: those of torchvision's networks, of data sets. Names of
    such a kind are checked when the component is made."""
    several: bool = False
    """Whether the setting takes several names; options of each are then in `Config.options` under its name."""


KINDS = {
    kind.group: kind
    for kind in (
        Kind(name="model", group="models", where="model.name", open="distdl.models.build:names"),
        Kind(name="dataset", group="datasets", where="data.name", open="distdl.data.sets.catalog:names"),
        Kind(name="loss", group="losses", where="loss"),
        Kind(name="metric", group="metrics", where="metrics", several=True),
        Kind(name="strategy", group="strategies", where="strategy", others=("auto",)),
        Kind(name="loader", group="loaders", where="data.loader", others=("auto",)),
        Kind(name="optimizer", group="optimizers", where="optim.name"),
        Kind(name="schedule", group="schedules", where="schedule.name"),
        Kind(name="augmentation", group="augmentations", where="data.augment.extra", several=True),
        Kind(name="tracker", group="trackers", where="trackers", several=True),
        Kind(name="launcher", group="launchers", where="--with"),
        Kind(name="study", group="studies", where="distdl study run"),
    )
}


def rows(group: str) -> dict[str, Row]:
    """The rows of a kind by name: those that ship with distdl, then those of other packages, which hide none."""
    from distdl.core.components import COMPONENTS

    installed = {name: _row_of(entries) for name, entries in _entries(group).items()}
    return {**installed, **COMPONENTS[group]}


def find(group: str, name: str) -> Row:
    """The row of a name, or one for "package.module:callable".

    Raises:
        UserError: if there is none, with the nearest name.
    """
    if (shipped := _shipped(group, name)) is not None:
        return shipped
    known = rows(group)
    if name in known:
        loaded = load(known[name])
        return loaded if isinstance(loaded, Row) else known[name]  # an entry point may name a row or a factory
    if TARGET.fullmatch(name):
        return Row(factory=name)
    kind = KINDS[group]
    raise UserError(
        f'{kind.where}: {kind.name} "{name}" is not known{nearest(name, known)} (distdl list {group} shows all)'
    )


def _shipped(group: str, name: str) -> Row | None:
    """The row of distdl's own component, found without a search for installed packages."""
    from distdl.core.components import COMPONENTS

    return COMPONENTS[group].get(name)


def load(row: Row) -> Any:
    """Import what a row names.

    Raises:
        UserError: if it cannot be imported, with the reason.
    """
    module, _, attribute = row.factory.partition(":")
    _add_current_folder()
    try:
        return getattr(importlib.import_module(module), attribute)
    except UserError:
        raise
    except Exception as error:  # another package may raise anything when it is imported
        what = " ".join(str(error).split())
        raise UserError(f"cannot import {row.factory}: {type(error).__name__}: {what}") from error


def _add_current_folder() -> None:
    """Modules of the current folder can be imported, as with `python -m`: the program `distdl` does not add it."""
    if not {"", os.getcwd()} & set(sys.path):  # noqa: PTH109 - as in sys.path
        sys.path.append(os.getcwd())  # noqa: PTH109


def make(group: str, name: str, *given: Any, options: Mapping[str, Any] | None = None, **named: Any) -> Any:
    """Call the factory of a component with `given` and `named`, and with the settings that the user gives in `options`.

    Raises:
        UserError: for an unknown component, and for a setting that it does not have, or of a wrong type.
    """
    factory = load(find(group, name))
    kind = KINDS[group]
    key = name if kind.several else kind.name
    return factory(*given, **named, **settings(factory, options or {}, f"options.{key}", len(given), set(named)))


def field_values(row: Row, config: Any, section: str = "") -> dict[str, Any]:
    """The values of the fields that a row uses, by the last part of their name: arguments of its factory.

    Args:
        config: a `Config`, or only its `section`.
    """
    values = {}
    for name in row.uses:
        *sections, last = name.removeprefix(f"{section}.").split(".")
        values[last] = getattr(functools.reduce(getattr, sections, config), last)
    return values


def settings(
    factory: Callable[..., Any], options: Mapping[str, Any], where: str, positional: int = 0, named: Iterable[str] = ()
) -> dict[str, Any]:
    """`options` converted to the types of the factory's parameters.

    Args:
        positional: number of parameters that the caller fills by position, and `named` those by name: no settings.
    Raises:
        UserError: for an option that is no parameter, a wrong type, or a missing option.
    """
    from distdl.core.validation import check

    parameters = list(inspect.signature(factory).parameters.values())
    accepted = {
        each.name: each
        for each in parameters[positional:]
        if each.name not in named and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    takes_all = any(each.kind == each.VAR_KEYWORD for each in parameters)
    target = factory.func if isinstance(factory, functools.partial) else factory
    target = target.__init__ if isinstance(target, type) else target
    hints = typing.get_type_hints(target, include_extras=True) if accepted else {}
    checked = {}
    for name, value in options.items():
        if name not in accepted and not takes_all:
            raise UserError(f"{where}.{name}: there is no such setting{nearest(name, accepted)}")
        checked[name] = check(hints.get(name, Any), value, f"{where}.{name}")
    for name, parameter in accepted.items():
        if name not in checked and parameter.default is parameter.empty:
            raise UserError(f"{where}.{name} is missing: set it in [{where}] of the profile or by --options")
    return checked


def names(group: str, pattern: str = "*") -> list[str]:
    """Names of a kind that a shell pattern matches, distdl's own first."""
    import fnmatch

    kind = KINDS[group]
    known = [*rows(group), *(load(Row(factory=kind.open))() if kind.open else ())]
    return [name for name in dict.fromkeys(known) if fnmatch.fnmatchcase(name, pattern)]


def known_in(group: str) -> AfterValidator:
    """Validator of a name of this kind, for the type of a field: Annotated[str, known_in("optimizers")]."""
    return AfterValidator(functools.partial(_known, group))


def _known(group: str, name: str) -> str:
    others = KINDS[group].others
    if name in others or _shipped(group, name) is not None:
        return name
    if TARGET.fullmatch(name):
        module = name.partition(":")[0]
        if not _module_exists(module):
            raise ValueError(f"{KINDS[group].where}: {name} cannot be imported: there is no module {module}")
        return name
    known = rows(group)
    if name not in known:
        expected = ", ".join(map(repr, (*others, *known)))
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


def _module_exists(module: str) -> bool:
    _add_current_folder()
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # a parent package that cannot be imported
        return False


def _entries(group: str) -> dict[str, list[EntryPoint]]:
    by_name: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=f"distdl.{group}"):
        # A package that is found twice on the path (an editable and a built install) counts once.
        if entry not in by_name.setdefault(entry.name, []):
            by_name[entry.name].append(entry)
    return by_name


def _row_of(entries: list[EntryPoint]) -> Row:
    values = {entry.value for entry in entries}
    package = f"{entries[0].dist.name} {entries[0].dist.version}" if entries[0].dist else "another package"
    if len(values) > 1:
        return Row(factory=entries[0].value, summary=f"several packages have this name: {', '.join(sorted(values))}")
    return Row(factory=entries[0].value, summary=f"from {package}")
