"""Rows of metrics.jsonl: means since the previous row, position, evaluations and warnings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distdl.core.files import is_row, read_rows
from distdl.training.callbacks.metrics import MetricsSink, write_row
from distdl.training.trainer import Trainer


@pytest.fixture
def entered(make: Callable) -> Callable[..., Trainer]:
    """Builds trainers with an opened run folder."""

    def build(**fields: Any) -> Trainer:
        trainer = make(**fields)
        trainer.run.enter(trainer.config, strategy="single")
        return trainer

    return build


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    result = list(read_rows(trainer.run.path / "metrics.jsonl"))
    assert all(map(is_row, result))
    return result


def step(trainer: Trainer, sink: MetricsSink, loss: float, seconds: float = 2.0) -> None:
    trainer.state.advance(32)
    trainer.progress.elapsed_s += seconds
    sink.step_end(trainer, torch.tensor(loss))


def test_a_row_has_the_means_since_the_previous_row(entered: Callable) -> None:
    trainer, sink = entered(log_every_s=1e9), MetricsSink()
    sink.begin(trainer)
    trainer.optimizer.param_groups[0]["lr"] = 0.25
    trainer.seconds["evaluate"] = 1.23456789
    for loss in (1.0, 2.0, 6.0):
        step(trainer, sink, loss)
    assert not (trainer.run.path / "metrics.jsonl").exists()
    sink.epoch_end(trainer)
    step(trainer, sink, 0.5, seconds=1.0)
    sink.epoch_end(trainer)
    sink.epoch_end(trainer)  # no new steps
    first, second = rows(trainer)
    assert (first["loss"], first["images_per_s"], first["lr"]) == (3.0, 16.0, 0.25)
    assert (second["loss"], second["images_per_s"]) == (0.5, 32.0)
    assert (first["kind"], first["step"], first["epoch"], first["time_s"]) == ("train", 3, 1.0, 6.0)
    assert (second["step"], second["epoch"], second["time_s"]) == (4, round(128 / 96, 6), 7.0)
    assert first["seconds"] == {"evaluate": 1.234568, "checkpoint": 0.0}
    assert first["phases_s"] == trainer.clock.read()


@pytest.mark.parametrize(("log_every_s", "count"), [(0.0, 3), (1e9, 0)])
def test_rows_are_written_at_the_interval(entered: Callable, log_every_s: float, count: int) -> None:
    trainer, sink = entered(log_every_s=log_every_s), MetricsSink()
    sink.begin(trainer)
    for loss in (1.0, 2.0, 3.0):
        step(trainer, sink, loss)
    assert len(rows(trainer)) == count
    assert [row["loss"] for row in rows(trainer)] == [1.0, 2.0, 3.0][:count]


def test_the_rate_of_a_resumed_run_counts_from_its_resume(entered: Callable) -> None:
    trainer, sink = entered(log_every_s=0.0), MetricsSink()
    trainer.progress.images, trainer.progress.elapsed_s = 9600, 100.0
    sink.begin(trainer)
    step(trainer, sink, 1.0)
    assert rows(trainer)[0]["images_per_s"] == 16.0


def test_a_step_that_takes_no_time_has_no_rate(entered: Callable) -> None:
    trainer, sink = entered(log_every_s=0.0), MetricsSink()
    sink.begin(trainer)
    step(trainer, sink, 1.0, seconds=0.0)
    assert rows(trainer)[0]["images_per_s"] == 0.0


def test_small_losses_are_added_in_double_precision(entered: Callable) -> None:
    trainer, sink = entered(log_every_s=1e9), MetricsSink()
    sink.begin(trainer)
    for loss in (1e8, 1.0, -1e8):
        step(trainer, sink, loss)
    sink.epoch_end(trainer)
    assert rows(trainer)[0]["loss"] == pytest.approx(1 / 3)


def test_evaluations_and_warnings_are_rows_of_separate_kinds(entered: Callable) -> None:
    trainer, sink = entered(), MetricsSink()
    sink.begin(trainer)
    trainer.state.advance(32)
    sink.evaluate_end(trainer, "test", {"accuracy": 0.5, "loss": 1.0, "epoch": 2, "step": 6, "best": True})
    sink.warn(trainer, "a message")
    test, warning = rows(trainer)
    assert test == {"time_s": 0.0, "kind": "test", "accuracy": 0.5, "loss": 1.0, "epoch": 2, "step": 6, "best": True}
    assert warning == {"time_s": 0.0, "step": 1, "epoch": 0.333333, "kind": "warning", "message": "a message"}


def test_a_row_is_written_before_the_call_returns(entered: Callable) -> None:
    """A kill loses no measured values."""
    trainer = entered()
    write_row(trainer, "train", {"loss": 1.0})
    assert len((trainer.run.path / "metrics.jsonl").read_bytes().splitlines()) == 1
