"""`make test`: both of its parts run, and it fails if either does."""

import shutil
import subprocess
from pathlib import Path

import pytest

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
def test_the_serial_part_runs_whatever_the_first_ends_with(parallel: int, serial: int, fails: int) -> None:
    make = needs("make", program="make")
    shutil.copy(MAKEFILE, "Makefile")
    made = ["setup.py", "constraints.txt", "containers/horovod/build.sh", ".venv/bin/uv", ".venv/.train", ".venv/.test"]
    for name in made:  # in the order in which make would make them
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    program = Path(".venv/bin/pytest")
    program.write_text(PART.format(serial=serial, parallel=parallel), encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run([make, "-s", "test"], capture_output=True, text=True)
    assert done.stdout.split() == ["parallel", "serial"]
    assert bool(done.returncode) == bool(fails), done.stderr
