"""Events of a training, and the callbacks that receive them. The loop in `trainer.py` calls them in this order:

    begin
    for each epoch:
        for each batch:
            step_end
            checkpoint              when due by steps, or when stopped
        epoch_end
        evaluate_end                when due
        checkpoint                  when due
    evaluate_end                    test of the best weights, if there is a validation split
    close
    result

`warn` may be called at any time. A callback overrides the methods that it needs. Put its work into functions that do
not depend on the training.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch

from distdl.core.config import Config
from distdl.core.manifest import Progress
from distdl.core.rundir import RunDir
from distdl.data.dataset import DataSet
from distdl.data.loaders.base import Loader
from distdl.runtime.world import World
from distdl.strategies.base import Strategy
from distdl.telemetry.clock import Clock
from distdl.training.checkpoint import Checkpoints
from distdl.training.stop import StopSignal


class Training(Protocol):
    """The attributes of a training that callbacks read. `Trainer` implements it."""

    config: Config
    strategy: Strategy
    world: World
    dataset: DataSet
    run: RunDir
    clock: Clock
    events: "Events"
    loaders: dict[str, Loader]
    checkpoints: Checkpoints
    stop: StopSignal
    nodes: int
    """Number of hosts."""
    global_batch: int
    """Samples per full step over all ranks."""
    epochs: float
    """Length of the training; a fraction if max_steps ends it within an epoch."""

    @property
    def model(self) -> torch.nn.Module: ...
    @property
    def optimizer(self) -> torch.optim.Optimizer: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def position(self) -> float:
        """Epochs trained so far, including the fraction of the current one."""
        ...

    @property
    def seconds(self) -> dict[str, float]:
        """Time outside training, by purpose: start, evaluate, checkpoint; and warm, which is part of training."""
        ...


class Callback:
    """Receives the events of a training. Every method is called on every rank, in the order of the callbacks."""

    def begin(self, trainer: Training) -> None:
        """Called before the first step, when everything is built and loaded."""

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        """Called after each step. `loss`: scalar on the device, this rank's mean; reading it waits for the device."""

    def epoch_end(self, trainer: Training) -> None:
        """Called after the last step of an epoch; `trainer.progress` already counts the epoch."""

    def evaluate_end(self, trainer: Training, split: str, metrics: dict[str, Any]) -> None:
        """Called after an evaluation.

        Args:
            split: "validation" or "test".
            metrics: accuracy, loss and further metrics over all samples of the split; epoch and step of the weights;
                `best` if validation selected the weights.
        """

    def checkpoint(self, trainer: Training) -> None:
        """Called when the state has been copied for a checkpoint, while a thread writes it."""

    def warn(self, trainer: Training, message: str) -> None:
        """Called with a warning for the user; the run continues."""

    def result(self, trainer: Training) -> dict[str, Any]:
        """Return the values that this callback adds to result.json, by key."""
        return {}

    def close(self, trainer: Training) -> None:
        """Called once at the end of the training, also after an error."""


class Events:
    """Calls the callbacks that override an event, and no others: an unused event costs nothing."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = list(callbacks)
        self._begin = self._overriding("begin")
        self._step_end = self._overriding("step_end")
        self._epoch_end = self._overriding("epoch_end")
        self._evaluate_end = self._overriding("evaluate_end")
        self._checkpoint = self._overriding("checkpoint")
        self._warn = self._overriding("warn")
        self._result = self._overriding("result")
        self._close = self._overriding("close")

    def _overriding(self, event: str) -> list[Callback]:
        return [each for each in self.callbacks if getattr(type(each), event) is not getattr(Callback, event)]

    def begin(self, trainer: Training) -> None:
        for callback in self._begin:
            callback.begin(trainer)

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        for callback in self._step_end:
            callback.step_end(trainer, loss)

    def epoch_end(self, trainer: Training) -> None:
        for callback in self._epoch_end:
            callback.epoch_end(trainer)

    def evaluate_end(self, trainer: Training, split: str, metrics: dict[str, Any]) -> None:
        for callback in self._evaluate_end:
            callback.evaluate_end(trainer, split, metrics)

    def checkpoint(self, trainer: Training) -> None:
        for callback in self._checkpoint:
            callback.checkpoint(trainer)

    def warn(self, trainer: Training, message: str) -> None:
        for callback in self._warn:
            callback.warn(trainer, message)

    def result(self, trainer: Training) -> dict[str, Any]:
        """Return the values that all callbacks add to result.json."""
        merged: dict[str, Any] = {}
        for callback in self._result:
            merged |= callback.result(trainer)
        return merged

    def close(self, trainer: Training) -> None:
        for callback in self._close:
            callback.close(trainer)
