"""The trainer without a session: one save per step, after its evaluation, and the time of an epoch."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.config import CheckpointConfig
from distdl.runtime.tensors import load
from distdl.training import checkpoint
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


def test_training_completes_although_the_disk_was_full_for_some_steps(
    make: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The disk is full at step 2, and again at steps 4 and 5 of 6: each is one warning, and the last state is whole."""
    trainer = make(epochs=2, checkpoint=CheckpointConfig(every_steps=1, every_epochs=0, keep=9))
    trainer.run.enter(trainer.config, strategy="single")
    warnings: list[str] = []
    monkeypatch.setattr(trainer.events, "warn", lambda _, message: warnings.append(message))
    write = checkpoint.write_atomic

    def write_or_fail(file: Path, *more: Any) -> None:
        if file.parent.name in (".step-00000002", ".step-00000004", ".step-00000005"):
            raise OSError(28, "No space left on device", str(file))
        write(file, *more)

    monkeypatch.setattr(checkpoint, "write_atomic", write_or_fail)
    assert trainer.fit() == "completed"
    assert [int(text.split()[4]) for text in warnings] == [2, 4, 5]
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [f"step-0000000{step}" for step in (1, 3, 6)]
    state, progress = load(folder / "step-00000006")
    assert progress.step == 6
    assert all(torch.equal(value, state["model"][name]) for name, value in trainer.model.state_dict().items())
