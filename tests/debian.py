"""Programs that come with Debian packages: a test names the package that it needs, and is skipped without it."""

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = Path(__file__).with_name("debian-packages.txt")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Daemons are in sbin, which a user's PATH may leave out."""


def needs(package: str, *, program: str, root: bool = False) -> str:
    """The full path of `program`; skips the test, naming the package, if it is not installed.

    Args:
        root: skip too if this user may not do what the test does.
    """
    listed = {line.split("#")[0].strip() for line in PACKAGES.read_text(encoding="utf-8").splitlines()}
    assert package in listed, f"{package} is missing in {PACKAGES.name}, which CI installs"
    if root and os.geteuid() != 0:
        pytest.skip("needs root")
    path = shutil.which(program, path=SEARCH)
    if path is None:
        pytest.skip(f"needs {program}: apt-get install {package}")
    return path
