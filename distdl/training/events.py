"""What happens during a training, by name, and those who listen.

A callback is a small class that overrides some of `Callback`'s methods; the loop in `trainer.py` names each event where
it happens. A callback's work belongs into functions of its own, which know nothing of the trainer.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from distdl.training.trainer import Trainer


class Callback:
    """Listens to a training. Every method is called on every rank, in the order in which the callbacks were given."""

    def begin(self, trainer: "Trainer") -> None:
        """Everything is built and loaded; the first step comes next."""

    def step_end(self, trainer: "Trainer", loss: torch.Tensor) -> None:
        """A step is over. `loss`: scalar on the device, this rank's mean; reading it waits for the device."""

    def epoch_end(self, trainer: "Trainer") -> None:
        """An epoch's last step is over; `trainer.progress` counts it already."""

    def evaluate_end(self, trainer: "Trainer", split: str, metrics: dict[str, float]) -> None:
        """`split` ("validation" or "test") was evaluated: accuracy and loss over all of it, epoch and step of the
        weights, and `best` where they are those that the validation chose."""

    def checkpoint(self, trainer: "Trainer") -> None:
        """The state was taken, and is being written."""

    def warn(self, trainer: "Trainer", message: str) -> None:
        """Something that the person should know, and that does not end the run."""

    def result(self, trainer: "Trainer") -> dict[str, Any]:
        """What this callback adds to result.json, by key."""
        return {}

    def close(self, trainer: "Trainer") -> None:
        """The training is over, in whatever way. Called once, even after an error."""


class Events:
    """Calls each listener that overrides an event, and no other: an event nobody hears costs nothing."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = list(callbacks)
        for name in ("begin", "step_end", "epoch_end", "evaluate_end", "checkpoint", "warn", "close"):
            heard = [getattr(c, name) for c in self.callbacks if getattr(type(c), name) is not getattr(Callback, name)]
            setattr(self, name, _all(heard))

    def result(self, trainer: "Trainer") -> dict[str, Any]:
        """What all callbacks add to result.json."""
        merged: dict[str, Any] = {}
        for callback in self.callbacks:
            merged |= callback.result(trainer)
        return merged


def _all(listeners: list[Any]) -> Any:
    def call(*args: Any) -> None:
        for listener in listeners:
            listener(*args)

    return call
