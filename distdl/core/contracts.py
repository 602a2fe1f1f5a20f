"""Describe what a component is or returns, and what it lacks, for messages."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distdl.core.errors import Failure, UserError, as_literal, reason

WITHOUT_GRADIENT = (
    "returned a tensor that carries no gradient, so that nothing can be trained: compute it without detach(), item(), "
    "numpy() and torch.no_grad()"
)
"""Message about the output of a network, or a loss, in training."""


class ComponentError(UserError):
    """A component that cannot be called as its kind is, or that returns something else than its kind must."""


@contextlib.contextmanager
def one_line(fault: Callable[[str], ComponentError]) -> Iterator[None]:
    """Turn any exception that a component of another package raises into one line.

    Args:
        fault: makes the error from a text such as "failed: ...".
    """
    try:
        yield
    except (UserError, Failure):
        raise
    except Exception as error:
        text = reason(error)
        if "memory" in text.lower():  # `run_command` has a line for it
            raise
        raise fault(f"failed: {text} (--debug shows the traceback)") from error


def described(value: Any) -> str:
    """A value that a component is or returns: "None", "a float (0.5)", "the class Focal"."""
    kind: Any = type(value)
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if isinstance(value, bool | int | float | str):
        return f"{with_article(kind.__name__)} ({as_literal(value)})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{with_article(kind.__name__)} of shape {list(value.shape)} and type {value.dtype}"
    return with_article(kind.__name__)


def violation(made: object, expected: Any) -> str:
    """The reason why an object is not what its kind must return; empty if it is.

    Args:
        expected: a class, or a protocol, of which the object must have all methods and attributes.
    """
    if not is_protocol(expected):
        # A class instead of its instance is a frequent mistake.
        is_instance = isinstance(made, expected) and not isinstance(made, type)
        return "" if is_instance else f"returned {described(made)}; expected {with_article(expected.__name__)}"
    if isinstance(made, type):
        return f"returned {described(made)}; expected an instance of it"
    if missing := [name for name in _members(expected) if not hasattr(made, name)]:
        return f"returned {described(made)}; it has no {joined(missing)}"
    return ""


def missing_methods(made: type, protocol: Any) -> list[str]:
    """Methods of a protocol that a class does not have."""
    methods = [name for name in _members(protocol) if callable(getattr(protocol, name, None))]
    return [name for name in methods if not hasattr(made, name)]


def is_protocol(expected: Any) -> bool:
    return bool(getattr(expected, "_is_protocol", False))


def _members(protocol: Any) -> list[str]:
    """Names of a protocol's attributes and methods."""
    names = [*getattr(protocol, "__annotations__", {}), *vars(protocol)]
    return [name for name in names if not name.startswith("_") or name == "__len__"]


def with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' or noun == 'ndarray' else 'a'} {noun}"


def joined(names: Iterable[str]) -> str:
    """Names as an enumeration: a, b or c."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
