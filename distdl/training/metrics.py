"""Metrics of an evaluation in addition to accuracy and loss (`Config.metrics`).

A metric of another package is given as package.module:Class, or by an entry point of the group distdl.metrics:

    class MeanConfidence:
        def __init__(self):
            self.sums = torch.zeros(2)

        def update(self, logits, labels):
            self.sums += torch.stack([logits.softmax(1).amax(1).sum(), torch.tensor(float(len(labels)))])

        def compute(self):
            return float(self.sums[0] / self.sums[1])

    distdl train --metrics my_package.metrics:MeanConfidence

Parameters of the constructor are settings (`Config.options`), under the metric's name. `sums` must be additive over
samples: the evaluation moves it to the device as float64, and sums it over all ranks before `compute`.
"""

import contextlib
from typing import Protocol

import torch

from distdl.core import factories
from distdl.core.config import Config, Positive
from distdl.core.contracts import ComponentError, described
from distdl.core.errors import UserError

RESERVED = ("accuracy", "loss", "epoch", "step", "best", "left_out", "kind", "time_s")


class Metric(Protocol):
    """A value that is computed from sums over samples. One object is made per evaluation and rank."""

    sums: torch.Tensor
    """Running sums, of any shape."""

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch to `sums`: logits [b, classes] float32, labels [b] int64, on the device."""

    def compute(self) -> float:
        """Return the value over all samples, from `sums`."""
        ...


class TopK:
    """Share of samples whose label is among the k classes with the largest logits.

    Args:
        k: number of classes.
    """

    def __init__(self, k: Positive = 5) -> None:
        self._k = k
        self.sums = torch.zeros(2)

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        top = logits.topk(min(self._k, logits.shape[1]), dim=1).indices
        self.sums[0] += (top == labels.unsqueeze(1)).sum()
        self.sums[1] += len(labels)

    def compute(self) -> float:
        correct, samples = self.sums.tolist()
        return correct / samples


def build(config: Config) -> dict[str, Metric]:
    """Make the configured metrics, by their name in results. For package.module:Class that is the name of the class.

    Raises:
        UserError: for an unknown metric, an unknown setting of a metric, and a name that results already use.
    """
    metrics: dict[str, Metric] = {}
    for name in config.metrics:
        key = name.rpartition(":")[2]
        if key in RESERVED or key in metrics:
            raise UserError(f'metrics: the name "{key}" is already used in results: give the metric another name')
        metrics[key] = factories.make("metrics", name, options=config.options.get(name))
    return metrics


def try_out(config: Config, classes: int, device: torch.device) -> None:
    """Evaluate the configured metrics once on random logits, so that a fault is found before the training.

    Raises:
        UserError: as `build`, and for a metric that fails or does not return a number.
    """
    logits = torch.randn(2 * classes, classes, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(2 * classes, device=device) % classes
    for name, (key, metric) in zip(config.metrics, build(config).items(), strict=True):
        factory = factories.get("metrics", name)
        if not isinstance(metric.sums, torch.Tensor):
            raise factory.fault(f"has sums of {described(metric.sums)}; expected a tensor")
        metric.sums = metric.sums.to(device, torch.float64)
        # Some figures are not defined for random predictions.
        with factory.calling(), contextlib.suppress(ArithmeticError):
            metric.update(logits, labels)
            value(key, metric)


def value(name: str, metric: Metric) -> float:
    """The figure of a metric.

    Raises:
        ComponentError: it is not a number.
    """
    computed = metric.compute()
    if isinstance(computed, str | bool | None):
        raise ComponentError(f"metrics: {name} computed {described(computed)}; expected a number")
    try:
        return float(computed)
    except (TypeError, ValueError, RuntimeError):  # torch raises RuntimeError for a tensor of several elements
        raise ComponentError(f"metrics: {name} computed {described(computed)}; expected a number") from None
