"""Import and call components, and check what they return. Every fault is one line that names the component.

factory = factories.get("optimizers", "package.module:callable")
optimizer = factory.make(groups, options={"floor": "0.1"})
"""

import contextlib
import functools
import math
import numbers
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from distdl.core import registry, targets
from distdl.core.contracts import ComponentError, described, is_protocol, joined, missing_methods, one_line, violation
from distdl.core.kinds import KINDS, Kind, Row
from distdl.core.registry import NO_OPTIONS, Options
from distdl.core.settings import Parameters


@dataclass(frozen=True, kw_only=True)
class Factory:
    """An imported component: the callable of its row."""

    kind: Kind
    name: str
    row: Row
    call: Callable[..., Any]

    def fault(self, text: str) -> ComponentError:
        """An error that names the component."""
        return ComponentError(f"{self.kind.where}: {self.name} {text}")

    @property
    def parameters(self) -> Collection[str]:
        """Names of the callable's parameters."""
        return self._parameters.signature.parameters

    @functools.cached_property
    def _parameters(self) -> Parameters:
        return Parameters(kind=self.kind, name=self.name, call=self.call)

    def fields(self, config: Any, section: str = "") -> dict[str, Any]:
        """The values of the fields that the row uses, by the last part of their name: arguments of the callable.

        Args:
            config: a `Config`, or only its `section`.
        """
        values = {}
        for name in self.row.uses:
            *sections, last = name.removeprefix(f"{section}.").split(".")
            values[last] = getattr(functools.reduce(getattr, sections, config), last)
        return values

    def settings(self, options: Options = NO_OPTIONS, named: Collection[str] = ()) -> dict[str, Any]:
        """The component's settings: see `Parameters.settings`."""
        return self._parameters.settings(options, named)

    def bound(self, options: Options = NO_OPTIONS, **named: Any) -> functools.partial[Any]:
        """The callable with `named` and its settings: what remains are the positional arguments of its kind.

        Raises:
            UserError: as `settings`.
        """
        return functools.partial(self.call, **named, **self.settings(options, named))

    def make(self, *given: Any, options: Options | None = None, **named: Any) -> Any:
        """Call the component with `given`, `named` and its settings, and check what it returns.

        Raises:
            UserError: as `settings`; and if it fails, or returns something else than its kind must.
        """
        call = self.bound(options or NO_OPTIONS, **named)
        with self.calling():
            made = call(*given)
        return self.require(made)

    def calling(self) -> contextlib.AbstractContextManager[None]:
        """Context that turns any exception of the component into one line, unless it is one of distdl's own."""
        is_shipped = registry.is_shipped(self.kind.group, self.row)
        return contextlib.nullcontext() if is_shipped else one_line(self.fault)

    def require(self, made: Any) -> Any:
        """`made`, if it is what a component of the kind returns.

        Raises:
            ComponentError: it is something else, or lacks a method or attribute.
        """
        if self.kind.makes and (text := violation(made, targets.load(self.kind.makes, self.kind.where))):
            raise self.fault(text)
        return made

    def number(self, value: Any, what: str = "returned") -> float:
        """`value` as a float.

        Raises:
            ComponentError: it is not a finite number.
        """
        if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise self.fault(f"{what} {described(value)}; expected a finite number")


def get(group: str, name: str, row: Row | None = None) -> Factory:
    """Import a component.

    Args:
        row: the component's row, if the caller has found it already.
    Raises:
        UserError: it is not known, cannot be imported, is not callable, or the package that it requires is missing.
    """
    kind, row = KINDS[group], row or registry.find(group, name)
    registry.require_installed(group, name, row)
    factory = Factory(kind=kind, name=name, row=row, call=targets.load(row.factory, kind.where))
    if not callable(factory.call):
        raise factory.fault(f"is not callable: it is {described(factory.call)}")
    if isinstance(factory.call, type) and not kind.makes:
        arguments = ", ".join(kind.arguments)
        raise factory.fault(f"is {described(factory.call)}; expected a function of ({arguments}) or an instance")
    if isinstance(factory.call, type):
        expected = targets.load(kind.makes, kind.where)
        if is_protocol(expected) and (missing := missing_methods(factory.call, expected)):
            raise factory.fault(f"is {described(factory.call)}, which has no {joined(missing)}")
    return factory


def make(group: str, name: str, *given: Any, options: Options | None = None, **named: Any) -> Any:
    """Import a component and make it: see `get` and `Factory.make`."""
    return get(group, name).make(*given, options=options, **named)
