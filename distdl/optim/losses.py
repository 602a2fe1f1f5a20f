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

import inspect
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from distdl.core import registry
from distdl.core.config import Config

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
    return partial(_mean, _configured(config, training=True))


def build_sum(config: Config) -> Loss:
    """Build the configured loss for evaluation, a function that returns the sum over a batch, without label smoothing.

    Raises:
        UserError: as `build`.
    """
    return partial(_sum, _configured(config, training=False))


def _configured(config: Config, *, training: bool) -> Loss:
    row = registry.find("losses", config.loss)
    loss = registry.load(row)
    fields = registry.field_values(row, config) if training else {}
    if "reduction" in inspect.signature(loss).parameters:
        fields["reduction"] = "mean" if training else "sum"
    options = config.options.get("loss", {})
    named = {*fields, *registry.field_values(row, config)}
    settings = registry.settings(loss, options, "options.loss", positional=2, named=named)
    return partial(loss, **fields, **settings)


def _mean(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    value = loss(logits, labels)
    return value.mean() if value.dim() else value


def _sum(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    value = loss(logits, labels)
    if value.dim():
        return value.sum()
    return value if _has_sum_reduction(loss) else value * len(labels)


def _has_sum_reduction(loss: Loss) -> bool:
    return isinstance(loss, partial) and loss.keywords.get("reduction") == "sum"
