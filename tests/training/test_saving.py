"""Checkpoint intervals, and the report of failed writes."""

from pathlib import Path

import pytest
import torch

from distdl.core.config import CheckpointConfig, Config
from distdl.core.errors import Failure
from distdl.core.manifest import Progress
from distdl.strategies.single import Single
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
