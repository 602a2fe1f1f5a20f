"""The trainer without a session: one save per step, after its evaluation, and the time of an epoch."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from distdl.core.config import CheckpointConfig
from gpu_fake import CUDA


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


@pytest.mark.parametrize(("device", "waited_s"), [(torch.device("cpu"), 0), (CUDA, 5)])
def test_an_epoch_ends_when_its_queued_kernels_have_run(
    make: Callable, monkeypatch: pytest.MonkeyPatch, device: torch.device, waited_s: int
) -> None:
    """They are training, not the evaluation that would wait for them."""
    now = 0.0

    def synchronize() -> None:
        nonlocal now
        now += 5

    trainer = make()
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: None)
    trainer.world = replace(trainer.world, device=device)
    assert trainer.train_epoch()
    assert trainer.progress.elapsed_s == waited_s
