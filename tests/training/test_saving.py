"""Checkpoint intervals, and the report of failed writes."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.config import CheckpointConfig, Config
from distdl.core.errors import Failure
from distdl.core.manifest import Progress, damaged, step_of
from distdl.runtime.tensors import load
from distdl.strategies.single import Single
from distdl.training import checkpoint as module
from distdl.training.checkpoint import Checkpoints
from distdl.training.saving import CheckpointPolicy, Saver


@pytest.mark.parametrize(
    ("every_steps", "every_epochs", "by_steps", "after_epoch"),
    [(0, 0, False, False), (0, 2, False, True), (5, 0, True, True), (4, 0, False, False), (4, 3, False, False)],
)
def test_checkpoints_that_are_due_at_step_10_of_epoch_2(
    every_steps: int, every_epochs: int, by_steps: bool, after_epoch: bool
) -> None:
    policy = CheckpointPolicy(config=CheckpointConfig(every_steps=every_steps, every_epochs=every_epochs))
    progress = Progress(step=10, epoch=2)
    assert policy.is_due_by_steps(progress) is by_steps
    assert policy.is_due_after_epoch(progress) is after_epoch


def test_a_failed_write_is_a_warning_at_the_next_save_and_a_failure_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    warnings: list[str] = []
    saver = Saver(Single(Config()), Checkpoints(tmp_path / "checkpoints"), warnings.append)
    saver.save(lambda: {"model": torch.zeros(1)}, Progress(step=3), None)
    assert len(warnings) == 1 and "the checkpoint of step 3 was not written" in warnings[0]
    with pytest.raises(Failure, match="the checkpoint of step 3 was not written"):
        saver.require_written()


class Sharded(Single):
    """A strategy whose shards cannot be written."""

    sharded = True

    def save_shards(self, folder: Path) -> None:
        raise OSError(28, "No space left on device")


def test_a_failed_write_of_a_shard_discards_the_checkpoint(tmp_path: Path) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    saver = Saver(Sharded(Config()), checkpoints, warnings.append)
    saver.save(lambda: pytest.fail("the state was copied"), Progress(step=3), None)
    assert len(warnings) == 1 and "rank 0: No space left on device" in warnings[0]
    assert list((tmp_path / "checkpoints").iterdir()) == []


class WithoutFolder(Sharded):
    """Another process has removed the folder when the shards are written."""

    def save_shards(self, folder: Path) -> None:
        folder.rmdir()
        super().save_shards(folder)


def test_a_checkpoint_whose_folder_was_removed_is_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    saver = Saver(WithoutFolder(Config()), Checkpoints(tmp_path / "checkpoints"), warnings.append)
    saver.save(dict, Progress(step=3), None)
    assert len(warnings) == 1 and "rank 0: No space left on device" in warnings[0]


class Shards(Single):
    """A strategy whose shard cannot be written at some steps."""

    sharded = True
    full_at: tuple[int, ...] = ()

    def save_shards(self, folder: Path) -> None:
        if int(folder.name.removeprefix(".step-")) in self.full_at:
            raise OSError(28, "No space left on device")
        (folder / "shard-0.pt").write_bytes(b"x")


@pytest.mark.parametrize("full_at", [(2,), (1, 2), (1, 3)])
@pytest.mark.parametrize("what", ["folder", "shard", "state", "manifest"])
def test_each_failed_write_is_one_warning_and_the_next_checkpoint_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, full_at: tuple[int, ...]
) -> None:
    """The disk is full at one or two of four steps, before the folder, a shard, the state or the manifest."""
    warnings: list[str] = []
    strategy, checkpoints = Shards(Config()), Checkpoints(tmp_path, keep=9)
    saver = Saver(strategy, checkpoints, warnings.append)
    if what == "shard":
        strategy.full_at = full_at
    else:
        fill_disk(monkeypatch, {"folder": "mkdir", "state": "write_atomic", "manifest": "seal"}[what], full_at)
    for step in range(1, 5):
        saver.save(lambda step=step: {"step": step}, Progress(step=step), None)
        checkpoints.wait()
        assert not list(tmp_path.glob(".*"))
    saver.require_written()
    assert [re.findall(r"step (\d+) was not written .*: No space left", text) for text in warnings] == [
        [str(step)] for step in full_at
    ]
    complete = [step for step in range(1, 5) if step not in full_at]
    assert [step_of(folder) for folder in checkpoints.list()] == complete
    for folder, step in zip(checkpoints.list(), complete, strict=True):
        assert not damaged(folder)
        assert load(folder)[0] == {"step": step}


def test_two_consecutive_failures_are_two_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of step 1 cannot be written by the thread, and then the folder of step 2 cannot be created."""
    warnings: list[str] = []
    saver = Saver(Single(Config()), Checkpoints(tmp_path), warnings.append)
    fill_disk(monkeypatch, "write_atomic", (1,))
    fill_disk(monkeypatch, "mkdir", (2,))
    for step in (1, 2):
        saver.save(dict, Progress(step=step), None)
    assert [re.findall(r"step (\d+) was not written", text) for text in warnings] == [["1"], ["2"]]
    with pytest.raises(Failure, match="the checkpoint of step 2 was not written"):
        saver.require_written()


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, full_at: tuple[int, ...]) -> None:
    """Make a function that creates a file or folder fail for the hidden folders of some steps."""
    place = Path if name == "mkdir" else module
    plain = getattr(place, name)

    def create(path: Path, *more: Any, **fields: Any) -> Any:
        if any(f".step-{step:08d}" in str(path) for step in full_at):
            raise OSError(28, "No space left on device", str(path))
        return plain(path, *more, **fields)

    monkeypatch.setattr(place, name, create)
