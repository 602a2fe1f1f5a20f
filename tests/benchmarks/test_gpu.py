"""The benchmark for a GPU: each part has a time limit, and a part that fails does not affect the others."""

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


def test_the_limits_of_all_parts_are_within_nine_minutes() -> None:
    assert sum(part.limit_s for part in PARTS.values()) <= gpu.TOTAL_S < 9 * 60


@pytest.mark.parametrize(
    ("code", "limit_s", "message"),
    [
        ("import sys; sys.exit('no such package')", 600, "no such package"),
        ("import time; print('begun', flush=True); time.sleep(600)", 5, "last output: begun"),
        ("pass", 600, "no output"),
    ],
)
def test_a_part_that_fails_or_hangs_is_reported_and_killed(
    tmp_path: Path, code: str, limit_s: float, message: str
) -> None:
    outcome = gpu.part_in_process([sys.executable, "-c", code], tmp_path / "figures.json", limit_s, {})
    assert message in outcome["failed"]


def test_no_part_is_started_without_remaining_time(tmp_path: Path) -> None:
    outcome = gpu.part_in_process(["no-such-program"], tmp_path / "figures.json", 1, {})
    assert outcome == {"failed": "no time remained"}


def test_without_a_gpu_it_exits_with_an_error() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--rehearse" in done.stderr


@pytest.mark.slow
def test_every_part_works_on_the_cpu(tmp_path: Path) -> None:
    argv = ["--rehearse", "--json", tmp_path / "figures.json"]
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py", *argv], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    assert list(report["parts"]) == list(PARTS)
    assert not [name for name, part in report["parts"].items() if "failed" in part]
    assert all(f"\n{name}" in done.stdout for name in PARTS)
    assert "not installed" in done.stdout
