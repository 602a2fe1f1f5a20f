"""Damaged inputs of each target, few in `make test`, many in `make test-all`. See fuzz/run.py for the outcomes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from repository import SUPPORT, TESTS

FOLDER = Path(__file__).with_name("targets")
SHARES = {
    file.stem: importlib.import_module(f"fuzz.targets.{file.stem}").TARGET.share
    for file in sorted(FOLDER.glob("[!_]*.py"))
}


def part(target: str, total: int) -> int:
    """Number of this target's inputs out of `total`."""
    return -(-total * SHARES[target] // sum(SHARES.values()))


def fuzz(target: str, first: int, count: int) -> dict:
    """Report of `python -m fuzz.run`."""
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "fuzz.run", target, "--first", str(first), "--count", str(count)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("target", SHARES)
def test_damaged_inputs(target: str) -> None:
    """500 inputs over all targets, with seeds that the slow test does not use."""
    report = fuzz(target, 1_000_000, part(target, 500))
    assert not report["bad"], json.dumps(report["bad"], indent=2)


@pytest.mark.slow
@pytest.mark.parametrize("target", SHARES)
def test_many_damaged_inputs(target: str) -> None:
    """10,000 inputs over all targets."""
    report = fuzz(target, 0, part(target, 10_000))
    assert not report["bad"], json.dumps(report["bad"], indent=2)
