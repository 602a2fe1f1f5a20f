"""Passes a training's metrics to its trackers."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distdl.core.contracts import ComponentError
from distdl.core.errors import reason
from distdl.core.profiles import as_table
from distdl.training.events import Callback, Training
from distdl.training.trackers.base import Tracker, TrackerFactory

POSITION = ("epoch", "step", "best")
"""Keys of an evaluation that are not metrics."""


class Tracking(Callback):
    """Calls trackers on rank 0. One that raises is dropped with a warning, and training continues."""

    def __init__(self, factories: Mapping[str, TrackerFactory]) -> None:
        self._factories = dict(factories)
        self._trackers: dict[str, Tracker] = {}

    def begin(self, trainer: Training) -> None:
        self._next_s = 0.0
        for name, make in self._factories.items():
            self._attempt(trainer, name, partial(self._add, name, make, trainer.run.path))
        if not self._trackers:
            return
        config = as_table(trainer.config, trainer.strategy.name)
        self._each(trainer, lambda tracker: tracker.log_config(config))

    def _add(self, name: str, make: TrackerFactory, run: Path) -> None:
        self._trackers[name] = make(run)

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        if not self._trackers or time.perf_counter() < self._next_s:
            return
        self._next_s = time.perf_counter() + trainer.config.log_every_s
        values = {"train/loss": loss.item(), "train/lr": trainer.optimizer.param_groups[0]["lr"]}
        self._log(trainer, values, trainer.progress.step)

    def evaluate_end(self, trainer: Training, split: str, metrics: dict[str, Any]) -> None:
        values = {f"{split}/{name}": value for name, value in metrics.items() if name not in POSITION}
        self._log(trainer, values, metrics["step"])

    def _log(self, trainer: Training, values: Mapping[str, float], step: int) -> None:
        self._each(trainer, lambda tracker: tracker.log_metrics(values, step))

    def end(self, trainer: Training, result: Mapping[str, Any]) -> None:
        """Log the result of the run and close the trackers."""
        self._each(trainer, lambda tracker: tracker.log_result(result))
        self._each(trainer, lambda tracker: tracker.close(result["status"]))

    def _each(self, trainer: Training, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            self._attempt(trainer, name, partial(call, tracker))

    def _attempt(self, trainer: Training, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except ComponentError:
            raise
        except Exception as error:  # an error of a service or its client must not end the training
            self._trackers.pop(name, None)
            trainer.events.warn(trainer, f"tracker {name} failed and is disabled: {reason(error)}")
