"""Rows of metrics.jsonl."""

import time
from typing import Any

import torch

from distdl.training.events import Callback, Training


class MetricsSink(Callback):
    """Writes metrics.jsonl on rank 0: a row of kind "train" every `log_every_s` seconds, and a row per evaluation.

    The loss of a train row is rank 0's mean over the steps since the previous row.
    """

    def begin(self, trainer: Training) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=trainer.world.device)
        self._steps, self._images, self._since = 0, trainer.progress.images, trainer.progress.elapsed_s
        self._next = time.perf_counter() + trainer.config.log_every_s

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        self._loss += loss
        self._steps += 1
        if time.perf_counter() >= self._next:
            self._write(trainer)

    def epoch_end(self, trainer: Training) -> None:
        if self._steps:
            self._write(trainer)

    def _write(self, trainer: Training) -> None:
        progress = trainer.progress
        seconds = progress.elapsed_s - self._since
        row = {
            "loss": self._loss.item() / self._steps,
            "lr": trainer.optimizer.param_groups[0]["lr"],
            "images_per_s": (progress.images - self._images) / seconds if seconds else 0.0,
            "phases_s": trainer.clock.read(),
            **trainer.strategy.loss_scale.report(),
            "seconds": {name: round(value, 6) for name, value in trainer.seconds.items()},
        }
        write_row(trainer, "train", row)
        self._loss.zero_()
        self._steps, self._images, self._since = 0, progress.images, progress.elapsed_s
        self._next = time.perf_counter() + trainer.config.log_every_s

    def evaluate_end(self, trainer: Training, split: str, metrics: dict[str, float]) -> None:
        write_row(trainer, split, metrics)

    def warn(self, trainer: Training, message: str) -> None:
        write_row(trainer, "warning", {"message": message})


def write_row(trainer: Training, kind: str, values: dict[str, Any]) -> None:
    """Append a row to metrics.jsonl with the current time, step and epoch; `values` may replace them."""
    progress = trainer.progress
    position = {"time_s": round(progress.elapsed_s, 6), "step": progress.step, "epoch": round(trainer.position, 6)}
    trainer.run.metrics({**position, "kind": kind, **values})
