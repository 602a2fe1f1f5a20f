"""The command line. Nothing else in the package imports it."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`distdl.cli:main`, the entry point of version 0.1."""
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from distdl.cli.__main__ import main
    from distdl.core.renamed import warn_old_module

    warn_old_module("distdl.cli:main", stacklevel=2)
    return main
