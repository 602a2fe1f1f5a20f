"""`make test` runs both of its parts; what make installs runs on the oldest supported Python."""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from debian import needs
from repository import ROOT

MAKEFILE = ROOT / "Makefile"
PART = """\
#!/bin/sh
case "$*" in *"serial and not slow"*) echo serial; exit {serial};; *) echo parallel; exit {parallel};; esac
"""


@pytest.mark.parametrize(
    ("parallel", "serial", "fails"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (5, 0, 0), (0, 5, 0), (2, 5, 1), (5, 5, 1)]
)
def test_serial_part_runs_after_a_failure_of_the_parallel_part(parallel: int, serial: int, fails: int) -> None:
    make = needs("make", program="make")
    shutil.copy(MAKEFILE, "Makefile")
    sources = ["setup.py", "constraints.txt", "distdl/__init__.py", "containers/horovod/build.sh", "containers/uv.txt"]
    for name in [
        *sources,
        ".venv/bin/uv",
        ".venv/.train",
        ".venv/.tools",
        ".venv/.test",
    ]:  # in the order in which make runs them
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    program = Path(".venv/bin/pytest")
    program.write_text(PART.format(serial=serial, parallel=parallel), encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run([make, "-s", "test"], capture_output=True, text=True)
    assert done.stdout.split() == ["parallel", "serial"]
    assert bool(done.returncode) == bool(fails), done.stderr
    assert "warning" not in done.stderr  # such as that for a target that is defined twice


def test_the_pinned_versions_run_on_the_oldest_supported_python() -> None:
    """The first release of Python 3.11: Debian 12 has 3.11.2."""
    assert metadata.metadata("distdl")["Requires-Python"] == ">=3.11"
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    if not pins:
        pytest.skip("constraints.txt is empty, as in the workflow's environment with the newest versions")
    installed = {each.metadata["Name"].lower().replace("_", "-"): each for each in metadata.distributions()}
    required = {
        name: installed[name].metadata["Requires-Python"]
        for name, version in pins.items()
        if name in installed and installed[name].version == version
    }
    assert len(required) > 100
    assert {name: text for name, text in required.items() if text and "3.11.0" not in SpecifierSet(text)} == {}
