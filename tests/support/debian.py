"""Programs from Debian packages: a test names the package that it needs, and is skipped without it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from repository import TESTS

PACKAGES = TESTS / "debian-packages.txt"
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Daemons are in sbin, which a user's PATH may not contain."""


def needs(package: str, *, program: str, root: bool = False) -> str:
    """Return the full path of `program`. Skips the test with the name of the package if it is not installed.

    Args:
        root: also skip the test if the user is not root.
    """
    listed = {line.split("#")[0].strip() for line in PACKAGES.read_text(encoding="utf-8").splitlines()}
    assert package in listed, f"{package} is missing in {PACKAGES.name}, which CI installs"
    if root and os.geteuid() != 0:
        pytest.skip("needs root", allow_module_level=True)
    path = shutil.which(program, path=SEARCH)
    if path is None:
        pytest.skip(f"needs {program}: apt-get install {package}", allow_module_level=True)
    return path


def needs_namespaces() -> None:
    """Skip the test if network namespaces cannot be created: without root, or in a container that forbids it."""
    for program in ("ip", "tc"):
        path = needs("iproute2", program=program, root=True)
        if shutil.which(program) is None:
            pytest.skip(f"needs {Path(path).parent} on PATH")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs permission to create network namespaces, which this container does not have")
