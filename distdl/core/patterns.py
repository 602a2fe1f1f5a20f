"""Shell patterns over names."""

import fnmatch
from collections.abc import Iterable

from distdl.core.errors import UserError, nearest


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
