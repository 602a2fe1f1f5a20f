"""The benchmark for a lent GPU: its time is bounded part by part, and a part that fails costs the others nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from repository import ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
from gpu_parts import PARTS  # noqa: E402


def test_the_parts_limits_are_within_the_wholes_and_that_within_nine_minutes() -> None:
    assert sum(part.limit_s for part in PARTS.values()) <= gpu.WHOLE_S < 9 * 60


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('no such package')", "no such package"),
        ("import time; print('begun', flush=True); time.sleep(600)", "last said: begun"),
        ("pass", "nothing said"),
    ],
)
def test_a_part_that_fails_or_hangs_is_told_and_ended(tmp_path: Path, code: str, says: str) -> None:
    found = gpu.part_in_process([sys.executable, "-c", code], tmp_path / "figures.json", 5, {})
    assert says in found["failed"]


def test_no_time_left_starts_nothing(tmp_path: Path) -> None:
    found = gpu.part_in_process(["no-such-program"], tmp_path / "figures.json", 1, {})
    assert found == {"failed": "no time was left"}


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--rehearse" in done.stderr


@pytest.mark.slow
def test_every_part_works_on_the_cpu(tmp_path: Path) -> None:
    words = ["--rehearse", "--json", tmp_path / "figures.json"]
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = json.loads((tmp_path / "figures.json").read_text())
    assert list(whole["parts"]) == list(PARTS)
    assert not [name for name, part in whole["parts"].items() if "failed" in part]
    assert all(f"\n{name}" in done.stdout for name in PARTS)
    assert "went without" in done.stdout
