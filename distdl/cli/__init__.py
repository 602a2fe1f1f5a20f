"""The command line. Nothing else in the package imports it."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    """`distdl.cli:main`, the entry point of version 0.1."""
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from distdl.cli.__main__ import main

    warnings.warn("distdl.cli:main is now distdl.cli.__main__:main", DeprecationWarning, stacklevel=2)
    return main
