"""Comparison of two checkpoints."""

import math
from pathlib import Path

import pytest
import torch

from distdl.core.manifest import Progress, seal
from distdl.runtime.tensors import write_tensors
from distdl.verify.compare import Difference, checkpoints, differences

STATE = {
    "model": {"weight": torch.tensor([1.0, 2.0]), "steps": torch.tensor(3)},
    "strategy": {"optimizer": {"state": {0: {"momentum_buffer": torch.tensor([0.5])}}, "groups": [{"lr": 0.1}]}},
    "ema": {"average": {"weight": torch.tensor([1.0])}, "updates": 7},
    "seconds": {"evaluate": 1.0},
}


def changed(path: tuple, value: object) -> dict:
    """STATE with one value replaced."""

    def walk(node: object, keys: tuple) -> object:
        if not keys:
            return value
        copied = list(node) if isinstance(node, list) else dict(node)
        copied[keys[0]] = walk(node[keys[0]], keys[1:])
        return copied

    return walk(STATE, path)


def test_a_state_has_no_differences_from_itself() -> None:
    assert differences(STATE, changed(("seconds",), {"evaluate": 1.0})) == []


@pytest.mark.parametrize(
    ("path", "value", "largest"),
    [
        (("model", "weight"), torch.tensor([1.0, 2.0000002]), pytest.approx(2.4e-7, rel=0.1)),
        (("model", "weight"), torch.tensor([1.0, 2.0, 3.0]), math.inf),
        (("model", "steps"), torch.tensor(4), 1.0),
        (("model", "steps"), torch.tensor(3.0), math.inf),
        (("strategy", "optimizer", "state", 0, "momentum_buffer"), torch.tensor([float("nan")]), None),
        (("strategy", "optimizer", "state", 0, "momentum_buffer"), torch.tensor([-0.0]), 0.5),
        (("strategy", "optimizer", "groups", 0, "lr"), 0.2, pytest.approx(0.1)),
        (("strategy", "optimizer", "groups"), [], math.inf),
        (("ema", "updates"), 8, 1.0),
        (("ema", "average"), {}, math.inf),
    ],
)
def test_each_changed_value_is_named(path: tuple, value: object, largest: object) -> None:
    (difference,) = differences(STATE, changed(path, value))
    assert difference.name.startswith(".".join(str(key) for key in path))
    assert largest is None or difference.largest == largest


def test_zero_and_minus_zero_are_different_bits() -> None:
    assert differences(torch.tensor([0.0]), torch.tensor([-0.0])) == [Difference("", 0.0)]


def test_nan_equals_nan() -> None:
    assert (
        differences({"a": float("nan"), "b": torch.tensor(math.nan)}, {"a": math.nan, "b": torch.tensor(math.nan)})
        == []
    )


def test_durations_and_world_size_are_ignored_and_shards_compared(tmp_path: Path) -> None:
    for name, seconds, feedback in (("one", 1.0, 0.5), ("other", 2.0, 0.25)):
        write_tensors_into(tmp_path / name, changed(("seconds",), {"evaluate": seconds}), feedback)
    assert [d.name for d in checkpoints(tmp_path / "one", tmp_path / "other")] == ["shard-0.pt.error"]
    assert checkpoints(tmp_path / "one", tmp_path / "other", shards=False) == []


def test_a_missing_shard_is_a_difference(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_tensors_into(tmp_path / name, STATE, 0.5)
    (tmp_path / "other" / "shard-0.pt").unlink()
    (tmp_path / "other" / "manifest.json").unlink()
    seal(tmp_path / "other", vars(Progress()), None)
    assert checkpoints(tmp_path / "one", tmp_path / "other") == [Difference("shard-0.pt", math.inf)]


def write_tensors_into(folder: Path, state: dict, feedback: float) -> None:
    """Write the files of a checkpoint."""
    folder.mkdir()
    write_tensors(folder / "state.pt", state)
    write_tensors(folder / "shard-0.pt", {"error": torch.tensor([feedback])})
    seal(folder, vars(Progress()), None)


def test_files_of_a_strategy_are_compared_too(tmp_path: Path) -> None:
    for name, momentum in (("one", 0.5), ("other", 0.25)):
        (tmp_path / name / "deepspeed").mkdir(parents=True)
        write_tensors(tmp_path / name / "deepspeed" / "optim.pt", {"momentum": torch.tensor([momentum])})
        write_tensors(tmp_path / name / "state.pt", STATE)
        seal(tmp_path / name, vars(Progress()), None)
    assert checkpoints(tmp_path / "one", tmp_path / "other") == [Difference("deepspeed/optim.pt.momentum", 0.25)]
    assert checkpoints(tmp_path / "one", tmp_path / "other", shards=False) == []
