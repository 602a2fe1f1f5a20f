"""State of a training that changes from step to step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from distdl.core.manifest import Progress
from distdl.optim.ema import EMA


@dataclass(kw_only=True)
class TrainState:
    """Weights, optimizer, position and evaluations of a training.

    `state_dict` does not include weights and optimizer: only the strategy can gather them from all ranks.
    """

    model: nn.Module
    optimizer: Optimizer
    ema: EMA | None
    samples: int
    """Samples per epoch, over all ranks."""
    progress: Progress = field(default_factory=Progress)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Last evaluation by split: accuracy, loss and further metrics, with the epoch and the step of the weights."""
    best: dict[str, Any] | None = None
    """Epoch and step of the best weights, and `validation`, their metrics."""

    @property
    def position(self) -> float:
        """Epochs trained so far, including the fraction of the current one."""
        return self.progress.epoch + self.progress.samples / self.samples

    def epoch_and_step(self) -> dict[str, Any]:
        """Epoch and step of the current weights; whole epochs as an integer."""
        epoch = round(self.position, 6)
        return {"epoch": int(epoch) if epoch.is_integer() else epoch, "step": self.progress.step}

    def advance(self, samples: int) -> None:
        """Count a step of this many samples over all ranks."""
        self.progress.step += 1
        self.progress.samples += samples
        self.progress.images += samples

    def end_epoch(self) -> None:
        """Count an epoch."""
        self.progress.epoch, self.progress.samples = self.progress.epoch + 1, 0

    def restart(self) -> None:
        """Restart at step 0 with the current weights."""
        self.optimizer.state.clear()
        self.ema = EMA(self.model, self.ema.decay) if self.ema else None
        self.progress, self.metrics, self.best = Progress(), {}, None

    def state_dict(self) -> dict[str, Any]:
        """Moving average and evaluations: tensors, numbers, strings and dicts."""
        return {"ema": self.ema.state_dict() if self.ema else {}, "metrics": self.metrics, "best": self.best}

    def load_state_dict(self, state: Mapping[str, Any], progress: Progress) -> None:
        """Restore the result of `state_dict` at a position; the weights have been loaded already."""
        if self.ema:
            self.ema = EMA(
                self.model, self.ema.decay
            )  # starts from the loaded weights if the checkpoint has no average
            if state["ema"]:
                self.ema.load_state_dict(state["ema"])
        self.progress = progress
        # Metrics saved by version 1 lack epoch and step of the weights.
        self.metrics = {split: {**self.epoch_and_step(), **values} for split, values in state["metrics"].items()}
        self.best = state.get("best")
