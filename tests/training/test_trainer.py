"""The trainer without a session: when it saves, what it keeps and tests, and the time of an epoch."""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.config import CheckpointConfig, DataConfig, OptimConfig, ScheduleConfig
from distdl.core.errors import Failure, UserError
from distdl.runtime.tensors import load
from distdl.training import checkpoint
from distdl.training.callbacks.telemetry import Accounting
from distdl.training.events import Callback
from distdl.training.trainer import Trainer
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


METRICS = [{"accuracy": 0.5, "loss": 3.0}, {"accuracy": 0.9, "loss": 2.0}, {"accuracy": 0.7, "loss": 1.0}] + [
    {"accuracy": 0.1, "loss": 9.0}
] * 3
"""Validation metrics of six epochs: the accuracy is best in epoch 2, the loss in epoch 3."""


@pytest.mark.parametrize(
    ("kind", "best", "keep", "remaining"),
    [("accuracy", 2, 1, [2, 6]), ("loss", 3, 1, [3, 6]), ("loss", 3, 2, [3, 5, 6]), ("accuracy", 2, 3, [2, 4, 5, 6])],
)
def test_the_best_and_the_newest_checkpoints_are_kept_and_the_best_is_tested(
    make: Callable, kind: str, best: int, keep: int, remaining: list[int]
) -> None:
    data = DataConfig(limit=0, batch_size=512, validation=0.5)
    trainer = make(epochs=6, data=data, checkpoint=CheckpointConfig(best=kind, keep=keep))
    trainer.run.enter(trainer.config, strategy="single")
    run, values = trainer.evaluator.run, iter(METRICS)

    def scripted(split: str, selected: dict[str, Any] | None = None) -> dict[str, Any]:
        metrics = run(split, selected)
        return metrics if split == "test" else metrics.update(next(values)) or metrics

    trainer.evaluator.run = scripted
    assert trainer.fit() == "completed"
    steps = trainer.progress.step // 6
    folders = sorted(folder.name for folder in trainer.run.checkpoints.iterdir())
    assert folders == [f"step-{epoch * steps:08d}" for epoch in remaining]
    assert trainer.state.best["epoch"] == trainer.metrics["test"]["epoch"] == best
    state, _ = load(trainer.run.checkpoints / f"step-{best * steps:08d}")
    assert all(torch.equal(value, state["model"][name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "status", "steps"),
    [
        ({"epochs": 2}, "completed", 6),
        ({"epochs": 3, "max_steps": 4}, "completed", 4),
        ({"epochs": 500, "max_time": 1e-9}, "stopped", None),
    ],
    ids=["epochs", "max_steps", "max_time"],
)
def test_a_training_ends_after_its_epochs_steps_or_time(
    make: Callable, fields: dict[str, Any], status: str, steps: int | None
) -> None:
    trainer = make(**fields, evaluate_every=500, checkpoint=CheckpointConfig(every_epochs=0))
    trainer.run.enter(trainer.config, strategy="single")
    assert trainer.fit() == status
    assert trainer.progress.step == steps or (steps is None and trainer.stop.reason == "max_time")


@pytest.mark.parametrize(("max_steps", "length"), [(0, 12), (6, 6)])
def test_the_schedule_spans_the_steps_of_the_training(make: Callable, max_steps: int, length: int) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def step_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    optim, schedule = OptimConfig(lr=0.2), ScheduleConfig(name="cosine")
    trainer = make([Rates()], epochs=4, max_steps=max_steps, optim=optim, schedule=schedule)
    trainer.run.enter(trainer.config, strategy="single")
    trainer.fit()
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * step / length)) for step in range(length)])


def test_an_epoch_without_its_last_samples_is_complete(make: Callable) -> None:
    """100 samples in batches of 32: step 3 ends the epoch, and is saved only after the evaluation."""
    data = DataConfig(limit=100, batch_size=32, drop_last=True)
    trainer = make(epochs=2, data=data, checkpoint=CheckpointConfig(every_steps=1))
    trainer.run.enter(trainer.config, strategy="single")
    saved: list[tuple[int, int]] = []
    trainer.saver.save = lambda state, progress, metric: saved.append((progress.step, progress.epoch))
    assert trainer.train_epoch()
    assert saved == [(1, 0), (2, 0)]
    trainer.end_epoch()
    assert (trainer.progress.step, trainer.progress.epoch, trainer.progress.samples) == (3, 1, 0)


def test_another_seed_is_refused_at_a_resume(make: Callable) -> None:
    first = make(epochs=1, seed=7)
    first.run.enter(first.config, strategy="single")
    first.fit()
    checkpoint = first.run.checkpoints / "step-00000003"
    make(seed=7).resume(checkpoint)
    with pytest.raises(UserError, match=r"seed"):
        make().resume(checkpoint)


def test_every_second_epoch_and_the_last_are_evaluated(make: Callable) -> None:
    steps: list[int] = []

    class Evaluations(Callback):
        def evaluate_end(self, trainer: Trainer, split: str, metrics: dict[str, Any]) -> None:
            steps.append(trainer.progress.step)

    trainer = make([Evaluations()], epochs=5, evaluate_every=2)
    trainer.run.enter(trainer.config, strategy="single")
    trainer.fit()
    assert steps == [6, 12, 15]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_is_trained_in_equal_micro_batches(make: Callable, accumulate: int) -> None:
    trainer = make(optim=OptimConfig(accumulate=accumulate))
    sizes: list[int] = []
    trainer.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    trainer.train_epoch()
    assert sizes == [32 // accumulate] * 3 * accumulate


def test_the_average_of_the_weights_is_evaluated(make: Callable) -> None:
    """The decay is 0.1 in the first step (see `EMA`) and at most the configured 0.15 in the next two."""

    class Weights(Callback):
        def __init__(self) -> None:
            self.steps: list[torch.Tensor] = []

        def step_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
            self.steps.append(first_weight(trainer.model))

    weights = Weights()
    trainer = make([weights], optim=OptimConfig(lr=0.5, ema=0.15))
    average = first_weight(trainer.model)
    trainer.train_epoch()
    for decay, value in zip((0.1, 0.15, 0.15), weights.steps, strict=True):
        average = decay * average + (1 - decay) * value
    evaluated: list[torch.Tensor] = []
    trainer.model.register_forward_pre_hook(lambda model, _: evaluated.append(first_weight(model)))
    trainer.evaluate("test")
    torch.testing.assert_close(evaluated[0], average)
    assert not torch.allclose(average, weights.steps[-1])


def first_weight(model: torch.nn.Module) -> torch.Tensor:
    return next(model.parameters()).detach().clone()


class Time:
    """Replaces the clocks of the host; only planted delays advance it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self.now = monkeypatch, 0.0
        for name in ("perf_counter", "time", "monotonic"):
            monkeypatch.setattr(time, name, lambda: self.now)

    def plant(self, place: Any, name: str, seconds: float) -> list[str]:
        """Make a function take this long. Returns a list with an entry for each call."""
        plain, calls = getattr(place, name), []

        def delayed(*arguments: Any, **fields: Any) -> Any:
            calls.append(name)
            self.now += seconds
            return plain(*arguments, **fields)

        self._monkeypatch.setattr(place, name, delayed)
        return calls


def test_a_delay_appears_in_its_own_part_and_the_parts_add_up(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of three steps. Each place takes another power of two, so that every sum names its places."""
    clock = Time(monkeypatch)
    accounting = Accounting(start_time=0.0)
    clock.now = 0.5
    trainer = make((accounting,), epochs=2, checkpoint=CheckpointConfig(every_steps=2))
    trainer.run.enter(trainer.config, strategy="single")
    read = trainer.loaders["train"].epoch

    def slow(*arguments: Any, **fields: Any) -> Any:
        for batch in read(*arguments, **fields):
            clock.now += 1
            yield batch

    monkeypatch.setattr(trainer.loaders["train"], "epoch", slow)
    transfers = clock.plant(trainer.loaders["train"], "transform", 2)
    clock.plant(trainer.step, "_forward", 4)
    clock.plant(trainer.strategy, "backward", 8)
    clock.plant(trainer.optimizer, "step", 16)
    evaluations = clock.plant(trainer.evaluator, "run", 32)
    saves = clock.plant(checkpoint, "_on_host", 64)
    clock.plant(trainer.events, "epoch_end", 128)
    assert trainer.fit() == "completed"
    trainer.events.close(trainer)
    ended = trainer.result("completed")
    assert ended["steps"] == 6 and len(evaluations) == 2 and len(saves) == 4  # steps 2, 3, 4 and 6
    assert ended["phases_s"] == {
        "data": 6 * 1,
        "transfer": 2 * len(transfers),
        "forward": 6 * 4,
        "backward": 6 * 8,
        "exchange": 0,
        "update": 6 * 16,
    }
    assert ended["train_s"] == sum(ended["phases_s"].values())
    assert (ended["evaluate_s"], ended["checkpoint_s"], ended["start_s"]) == (2 * 32, 4 * 64, 0.5)
    assert ended["held_s"] == clock.now
    assert clock.now == ended["train_s"] + ended["evaluate_s"] + ended["checkpoint_s"] + ended["start_s"] + 2 * 128


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


@pytest.mark.parametrize("stops", [True, False])
def test_a_last_checkpoint_that_cannot_be_written_is_a_failure(
    make: Callable, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """Otherwise the exit code would promise that the training can be resumed from its last step."""
    trainer = make(checkpoint=CheckpointConfig(every_steps=2), epochs=1)
    trainer.run.enter(trainer.config, strategy="single")

    def write(file: Path, *more: Any) -> None:
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    if stops:
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Failure, match=f"the checkpoint of step {1 if stops else 3} was not written"):
        trainer.fit()


@pytest.mark.parametrize("updated", [True, False])
def test_only_a_step_that_updates_the_weights_changes_the_average(
    make: Callable, monkeypatch: pytest.MonkeyPatch, updated: bool
) -> None:
    trainer = make(optim=OptimConfig(ema=0.9))
    monkeypatch.setattr(trainer.strategy, "step", lambda: torch.tensor(updated))
    assert trainer.train_epoch()
    assert trainer.state.ema.updates == (3 if updated else 0)
