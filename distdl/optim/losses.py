"""Training losses.

A loss is a function of logits [b, classes] and labels that returns the mean over the batch (a scalar) or one value per
sample ([b]). Labels are [b] int64, or [b, classes] floats if samples are mixed or have several labels.

A loss of another package is given as package.module:function, or by an entry point of the group distdl.losses:

    def focal(logits, labels, *, gamma: float = 2.0):
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return (1 - torch.exp(-loss)) ** gamma * loss

    distdl train --loss my_package.losses:focal --options loss.gamma=1.5

Its keyword parameters are settings (`Config.options`). If it has a parameter `reduction`, as torch's functions have, it
is called with "mean" in training and with "sum" in evaluation.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from distdl.core import factories
from distdl.core.config import Config
from distdl.core.contracts import WITHOUT_GRADIENT, described
from distdl.core.factories import Factory

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> torch.Tensor:
    """Compute the softmax cross-entropy of logits [b, classes] and labels, [b] int64 or [b, classes] floats.

    Args:
        label_smoothing: share of the target that is distributed evenly over all classes.
        reduction: mean or sum over the batch, or none for one value per sample, [b].
    """
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction=reduction)


def build(config: Config) -> Loss:
    """Build the configured loss for training, a function that returns the mean over a batch.

    Raises:
        UserError: the loss is not known, or does not have a setting.
    """
    factory = factories.get("losses", config.loss)
    return BatchLoss(factory, _configured(factory, config, training=True), _mean)


def build_sum(config: Config) -> Loss:
    """Build the configured loss for evaluation, a function that returns the sum over a batch, without label smoothing.

    Raises:
        UserError: as `build`.
    """
    factory = factories.get("losses", config.loss)
    loss = _configured(factory, config, training=False)
    return BatchLoss(factory, loss, _sum_of_sums if loss.keywords.get("reduction") == "sum" else _sum_of_means)


class BatchLoss:
    """A loss reduced over a batch. What the component returns is checked once, at the first batch.

    Args:
        loss: the component with its settings.
        reduce: from its result and the number of samples to a scalar.
    """

    def __init__(self, factory: Factory, loss: Loss, reduce: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        self._factory, self._loss, self._reduce = factory, loss, reduce
        self._compute = self._checked

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self._reduce(self._compute(logits, labels), len(labels))

    def _checked(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with self._factory.calling():
            value = self._loss(logits, labels)
        if (
            not isinstance(value, torch.Tensor)
            or value.shape not in ((), logits.shape[:1])
            or not value.is_floating_point()
        ):
            raise self._factory.fault(f"returned {described(value)}; expected a tensor of shape [] or [{len(labels)}]")
        if logits.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
            raise self._factory.fault(WITHOUT_GRADIENT)
        self._compute = self._loss
        return value


def _configured(factory: Factory, config: Config, *, training: bool) -> partial[torch.Tensor]:
    used = factory.fields(config)
    fields = dict(used) if training else {}
    if "reduction" in factory.parameters:
        fields["reduction"] = "mean" if training else "sum"
    settings = factory.settings(config.options.get("loss", {}), {*fields, *used})
    return partial(factory.call, **fields, **settings)


def _mean(value: torch.Tensor, count: int) -> torch.Tensor:
    return value.mean() if value.dim() else value


def _sum_of_means(value: torch.Tensor, count: int) -> torch.Tensor:
    return value.sum() if value.dim() else value * count


def _sum_of_sums(value: torch.Tensor, count: int) -> torch.Tensor:
    return value.sum()
