"""Shell patterns over names."""

import fnmatch
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from distdl.core.errors import UserError, as_literal, nearest


def matching(pattern: str, names: Iterable[str], field: str) -> set[str]:
    """The names that a shell pattern matches.

    Args:
        names: of parameters, as in `layer1.0.conv1.weight`.
        field: the configuration's field that the pattern comes from, for the error.
    Raises:
        UserError: if no name matches, with the nearest pattern that does.
    """
    names = list(names)
    matches = set(fnmatch.filter(names, pattern))
    if not matches:
        modules = {name[:dot] + ".*" for name in names for dot in range(len(name)) if name[dot] == "."}
        known = sorted(modules.union(names))
        as_deep = [other for other in known if other.count(".") == pattern.count(".")]
        raise UserError(
            f'{field}: no parameter matches "{pattern}"{nearest(pattern, as_deep) or nearest(pattern, known)}'
        )
    return matches


def _validated(pattern: str) -> str:
    if pattern.startswith("-"):  # a launcher passes patterns as arguments, where "--out=x" would be an option
        reason = f"{as_literal(pattern)} begins with a hyphen, and no parameter's name does"
        raise PydanticCustomError("component", "{reason}", {"reason": reason})
    return pattern


Pattern = Annotated[str, AfterValidator(_validated)]
"""Type of a field with a shell pattern over names of parameters."""
