"""Settings of a component: `Config.options` converted to the types of the parameters of a callable."""

import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from distdl.core.contracts import ComponentError
from distdl.core.errors import UserError, nearest
from distdl.core.kinds import Kind
from distdl.core.registry import NO_OPTIONS, Options
from distdl.core.validation import check

_OPEN: dict[type, Any] = {tuple: tuple[JsonValue, ...], list: list[JsonValue], dict: dict[str, JsonValue]}
"""Types of the settings without an annotation whose default is a container, by the type of the default."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The parameters of a component's callable. distdl fills those of its kind; the others are settings."""

    kind: Kind
    name: str
    call: Callable[..., Any]

    @property
    def key(self) -> str:
        """Key of the settings in `Config.options`."""
        return self.name if self.kind.several else self.kind.name

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Signature of the callable.

        Raises:
            ComponentError: Python cannot read it.
        """
        try:
            return inspect.signature(self.call)
        except (ValueError, TypeError):
            message = f"{self.kind.where}: {self.name} has no signature that Python can read: wrap it in a function"
            raise ComponentError(message) from None

    def settings(self, options: Options = NO_OPTIONS, named: Collection[str] = ()) -> dict[str, Any]:
        """`options` converted to the types of the parameters.

        Args:
            named: parameters that distdl fills by name, in addition to the positional ones of the kind: no settings.
        Raises:
            UserError: for an option that is no parameter, a wrong type, a missing option, or a callable that does not
                accept the arguments of its kind.
        """
        parameters = list(self.signature.parameters.values())
        by_position = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        filled = {each.name for each in by_position[: len(self.kind.arguments)]} | {*named}
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        accepted = {each.name: each for each in parameters if each.name not in filled and each.kind in by_name}
        rest = next((each for each in parameters if each.kind == each.VAR_KEYWORD), None)
        checked = {}
        for name, value in options.items():
            parameter = accepted.get(name) or (rest if name not in filled else None)
            if parameter is None:
                raise UserError(self._no_setting(name, accepted))
            checked[name] = self._converted(name, parameter, value)
        for name, parameter in accepted.items():
            if name not in checked and parameter.default is parameter.empty:
                raise UserError(self._missing(name))
        self._check_call([*named, *checked])
        return checked

    def _check_call(self, named: Collection[str]) -> None:
        positional = self.kind.arguments
        try:
            self.signature.bind(*positional, **dict.fromkeys(named))
        except TypeError as error:
            written = ", ".join([*positional, *(f"{name}=..." for name in named)])
            message = f"{self.kind.where}: {self.name} cannot be called with ({written}): {error}"
            raise ComponentError(message) from None

    def _no_setting(self, name: str, accepted: Iterable[str]) -> str:
        listed = f"(its settings: {', '.join(accepted)})" if accepted else "(it has no settings)"
        return f"options.{self.key}.{name}: {self.name} has no setting {name!r}{nearest(name, accepted)} {listed}"

    def _missing(self, name: str) -> str:
        if not self.kind.is_field:
            return f"{self.kind.where}: {self.name} has a parameter {name!r} without a default value: give it one"
        table = f'"{self.key}"' if self.kind.several else self.key
        how = f"use --options {self.key}.{name}=VALUE, or {name} = VALUE in [options.{table}] of a profile"
        is_factory = self.kind.several and not self.kind.arguments  # users may name the metric, augmentation itself
        called = f" (distdl calls it with its settings only, and uses what it returns as {self.kind.name})"
        return f"options.{self.key}.{name} is missing: {self.name} requires it{called * is_factory}; {how}"

    def _converted(self, name: str, parameter: inspect.Parameter, value: Any) -> Any:
        where, kind = f"options.{self.key}.{name}", parameter.annotation
        if isinstance(kind, str):
            kind = self._resolved(kind, where)
        if kind is parameter.empty and parameter.default is not parameter.empty and parameter.default is not None:
            kind = _OPEN.get(type(parameter.default), type(parameter.default))
        if kind is parameter.empty and parameter.kind != parameter.VAR_KEYWORD:
            raise UserError(f"{where}: parameter {name!r} of {self.name} has no type: annotate it, as in {name}: float")
        if kind is parameter.empty:
            kind = JsonValue
        if kind in (Any, JsonValue) or _is_container(kind):
            value = _read(value)
        # pydantic checks JsonValue in Python values only.
        return check(kind, value, where, strict=not isinstance(value, str) and kind not in (JsonValue, *_OPEN.values()))

    def _resolved(self, annotation: str, where: str) -> Any:
        """The type of an annotation that is text (`from __future__ import annotations`)."""
        target = self.call.func if isinstance(self.call, functools.partial) else self.call
        target = target.__init__ if isinstance(target, type) else target
        scope = getattr(inspect.unwrap(getattr(target, "__func__", target)), "__globals__", {})
        holder = types.SimpleNamespace(__annotations__={"value": annotation})
        try:
            return typing.get_type_hints(holder, globalns=scope, include_extras=True)["value"]
        except Exception as error:  # a name that only a type checker imports
            raise UserError(f"{where}: the annotation {annotation!r} in {self.name} is no type: {error}") from None


def _is_container(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_container(inner) for inner in typing.get_args(kind))
    return (origin or kind) in (tuple, list, dict)


def _read(value: Any) -> Any:
    """A value whose type is open: text of a command line may be a number, true, false or a list."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
