"""The trainer alone: numerics as configured, one save per step."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distdl.core.config import CheckpointConfig, ComputeConfig, Config, DataConfig, ModelConfig
from distdl.data.sets.load import load
from distdl.training.trainer import Trainer
from trainers import trainers

SMALL = {"data": DataConfig(limit=96, batch_size=32), "model": ModelConfig(name="softmax")}


@pytest.fixture
def make(tmp_path: Path) -> Iterator:
    """Builds trainers of one process; their signal handlers and torch's settings are restored afterwards."""
    flags = (torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    with trainers(tmp_path / "run") as build:

        def configured(**fields: object) -> Trainer:
            config = Config(**{**SMALL, **fields})
            return build(config, load(config.data))

        yield configured
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_numerics_are_those_of_the_configuration(make, deterministic: bool, precision: str) -> None:
    make(deterministic=deterministic, compute=ComputeConfig(precision=precision, threads=1))
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is (precision != "fp32")


def test_a_step_at_the_end_of_an_epoch_is_saved_once_after_its_evaluation(make) -> None:
    """96 samples in batches of 32: steps 3 and 6 end an epoch."""
    trainer = make(epochs=2, checkpoint=CheckpointConfig(every_steps=1, every_epochs=1, keep=9))
    trainer.run.enter(trainer.config, strategy="single")
    saved = []
    begin = trainer.checkpoints.begin
    trainer.checkpoints.begin = lambda step: saved.append((step, "test" in trainer.metrics)) or begin(step)
    assert trainer.fit() == "completed"
    assert saved == [(1, False), (2, False), (3, True), (4, True), (5, True), (6, True)]
    assert trainer.metrics["test"]["step"] == 6
