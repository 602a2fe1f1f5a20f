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
    measured = losses(tmp_path, CASES[strategy])
    if golden["cpu"] == platform()["cpu"]:
        assert measured == golden[strategy]
    else:  # other instructions round differently: in each step by about 1e-7
        assert numbers(measured) == [pytest.approx(recorded, rel=1e-5) for recorded in numbers(golden[strategy])]


def numbers(recorded: list[list[str]]) -> list[list[float]]:
    return [[float.fromhex(text) for text in rank] for rank in recorded]
