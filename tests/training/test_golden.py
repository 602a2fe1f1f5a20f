"""The exact losses of 20 steps of profile digits on the CPU, which changes of the trainer must preserve."""

import json
from pathlib import Path

import pytest

from recorded_losses import CASES, GOLDEN, golden_file, losses, platform


@pytest.mark.parametrize("strategy", CASES)
def test_losses_equal_the_recorded_bits(tmp_path: Path, strategy: str) -> None:
    """After an intended change, run `python tests/support/recorded_losses.py` to record them again."""
    if not golden_file().is_file():
        recorded = ", ".join(sorted(file.stem for file in GOLDEN.glob("*.json")))
        pytest.skip(f"no golden losses of torch {platform()['torch']}; recorded are {recorded}")
    golden = json.loads(golden_file().read_text(encoding="utf-8"))
    if golden["cpu"] != platform()["cpu"]:
        pytest.skip(f"golden losses are of a CPU with {golden['cpu']}, not {platform()['cpu']}")
    assert losses(tmp_path, CASES[strategy]) == golden[strategy]
