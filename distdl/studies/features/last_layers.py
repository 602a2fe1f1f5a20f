"""Training of last layers on stored features, one for every seed and learning rate, all at once.

Each layer equals the one that `distdl.train` trains with all other layers frozen and no augmentation: it has the same
initial weights, sample order, optimizer and schedule.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.data.dataset import DataSet
from distdl.data.loaders import order
from distdl.models import blocks as parts
from distdl.models import build as zoo
from distdl.optim import optimizers, schedules

Features = Mapping[str, tuple[Tensor, Tensor]]
"""By split: features [n, d] float32 and labels [n] int64, in the split's order."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Result of training one last layer. Accuracies are in 0 to 1."""

    lr: float
    seed: int
    best_epoch: int
    """Number of epochs after which validation accuracy was best; the weights at that point are tested."""
    validation: float
    test: float
    curve: tuple[tuple[int, float], ...]
    """(epochs trained, validation accuracy) of each evaluation; test accuracy if there is no validation split."""
    loss: float | None
    """Mean training loss of the last epoch; None if it is not finite."""


def train(
    features_of: Features, config: Config, dataset: DataSet, rates: Sequence[float], seeds: Sequence[int]
) -> tuple[list[Head], "Layers"]:
    """Train a last layer for every seed at every rate, all at once.

    Returns:
        The result of each, in the order of seeds, then rates; and the layers [seeds, rates] that were tested.
    Raises:
        UserError: if the configuration has settings that cannot be applied to stored features.
    """
    if unsupported := [name for name, value in _unsupported(config).items() if value]:
        raise UserError(f"a grid of last layers does not support {unsupported[0]}: remove it")
    features, labels = features_of["train"]
    layers = Layers.of([_first_head(config, dataset, seed) for seed in seeds], len(rates), features.device)
    changing = [
        optimizers.build(_at(config, lr), layers.layer_view(s, r), global_batch=config.data.step_samples(1))
        for s in range(len(seeds))
        for r, lr in enumerate(rates)
    ]
    best, best_epoch = torch.full(layers.shape, -1.0), torch.zeros(layers.shape, dtype=torch.int64)
    chosen, curve = layers.copy(), []
    loss = torch.full(layers.shape, math.nan)
    for epoch in range(config.epochs):
        order_of = [order.order(seed, epoch, len(labels)) for seed in seeds]
        loss = _epoch(layers, features, labels, np.stack(order_of), changing, config, epoch)
        if (epoch + 1) % config.evaluate_every and epoch + 1 < config.epochs:
            continue
        accuracy = layers.accuracy(*features_of.get("validation", features_of["test"]))
        curve.append((epoch + 1, accuracy))
        better = accuracy > best
        best, best_epoch = torch.where(better, accuracy, best), torch.where(better, epoch + 1, best_epoch)
        chosen.take(layers, better)
    test = chosen.accuracy(*features_of["test"])
    heads = [
        Head(
            lr=lr,
            seed=seed,
            best_epoch=int(best_epoch[s, r]),
            validation=float(best[s, r]),
            test=float(test[s, r]),
            curve=tuple((epoch, float(accuracy[s, r])) for epoch, accuracy in curve),
            loss=float(loss[s, r]) if math.isfinite(loss[s, r]) else None,
        )
        for s, seed in enumerate(seeds)
        for r, lr in enumerate(rates)
    ]
    return heads, chosen


def _epoch(
    layers: "Layers",
    features: Tensor,
    labels: Tensor,
    sequences: np.ndarray,
    changing: Sequence[torch.optim.Optimizer],
    config: Config,
    epoch: int,
) -> Tensor:
    """Train each seed's layers on its sequence [seeds, n] of samples. Returns mean losses [seeds, rates] on the CPU."""
    n = len(labels)
    schedule = schedules.build(config.schedule, float(config.epochs), config.options.get("schedule", {}))
    total = torch.zeros(layers.shape, device=features.device)
    sizes = order.sizes(n, config.data.step_samples(1), pieces=1, drop_last=config.data.drop_last).tolist()
    position = 0
    for size in sizes:
        members = torch.from_numpy(sequences[:, position : position + size]).to(features.device)
        total += layers.step(features[members], labels[members], config.optim.label_smoothing)
        factor = schedule(epoch + position / n)
        for optimizer in changing:
            schedules.apply(optimizer, factor)
            optimizer.step()
        position += size
    return (total / len(sizes)).cpu()


def _unsupported(config: Config) -> dict[str, Any]:
    """Settings that training on stored features cannot apply, by name."""
    return {
        "augmentation": config.data.augment != type(config.data.augment)(),
        "optim.clip_norm": config.optim.clip_norm,
        "optim.ema": config.optim.ema,
        "optim.accumulate": config.optim.accumulate > 1,
        "max_steps": config.max_steps,
    }


def _at(config: Config, lr: float) -> Any:
    return dataclasses.replace(config.optim, lr=lr, lr_factors=())


def _first_head(config: Config, dataset: DataSet, seed: int) -> tuple[Tensor, Tensor]:
    """The last layer as `distdl.train --seed` initializes it, after all earlier layers of the network."""
    torch.manual_seed(seed)
    model = network(config, dataset)
    return head_tensors(model)


def head_tensors(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight [classes, features] and bias [classes] of the last layer.

    Raises:
        UserError: if it has no bias.
    """
    head = model.get_submodule(parts.head(model))
    weight, bias = head.weight, head.bias
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        raise UserError("the last layer has no bias: use model.train_only instead")
    return weight.flatten(1), bias


class Layers:
    """Last layers [seeds, rates] in one tensor: a step of all layers is one matrix product."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.shape = weight.shape[:2]
        self._layers: dict[tuple[int, int], nn.Linear] = {}

    @classmethod
    def of(cls, heads: Sequence[tuple[Tensor, Tensor]], rates: int, device: torch.device) -> "Layers":
        with torch.no_grad():
            weight = torch.stack([weight for weight, _ in heads])[:, None].repeat(1, rates, 1, 1)
            bias = torch.stack([bias for _, bias in heads])[:, None]
            return cls(weight.to(device), bias.repeat(1, rates, 1).to(device))

    def copy(self) -> "Layers":
        return Layers(self.weight.clone(), self.bias.clone())

    def take(self, other: "Layers", where: Tensor) -> None:
        """Copy the layers of `other` at `where` [seeds, rates]."""
        where = where.to(self.weight.device)
        self.weight[where], self.bias[where] = other.weight[where], other.bias[where]

    def layer_view(self, seed: int, rate: int) -> nn.Linear:
        """Return one layer as a view, through which an optimizer updates the stacked tensors."""
        layer = nn.Linear(1, 1, device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight[seed, rate]), nn.Parameter(self.bias[seed, rate])
        self._layers[seed, rate] = layer
        return layer

    def step(self, features: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Set each layer's gradients by a batch for each seed, [seeds, b, d] and [seeds, b]. Returns losses [s, r]."""
        weight, bias = self.weight.detach().requires_grad_(), self.bias.detach().requires_grad_()
        logits = _logits(features, weight, bias)
        targets = labels[:, :, None].expand(logits.shape[:3])
        losses = F.cross_entropy(
            logits.flatten(0, 2), targets.flatten(), label_smoothing=label_smoothing, reduction="none"
        )
        losses = losses.view(targets.shape).mean(1)
        # torch's fused optimizers on the CPU read a gradient's memory in order and ignore its strides.
        by_weight, by_bias = (g.contiguous() for g in torch.autograd.grad(losses.sum(), [weight, bias]))
        for index, layer in self._layers.items():
            layer.weight.grad, layer.bias.grad = by_weight[index], by_bias[index]
        return losses.detach()

    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: Tensor, part: int = 4096) -> Tensor:
        """Accuracy [seeds, rates] on the CPU, for features [n, d] and labels [n], in parts of `part` samples."""
        correct = torch.zeros(self.shape, device=features.device)
        for chunk, targets in zip(features.split(part), labels.split(part), strict=True):
            predictions = _logits(chunk.expand(len(self.weight), -1, -1), self.weight, self.bias).argmax(-1)
            correct += (predictions == targets[None, :, None]).sum(1)
        return (correct / len(labels)).cpu()


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[s, b, d] features through [s, r, c, d] layers: [s, b, r, c]."""
    product = torch.baddbmm(bias.flatten(1)[:, None], features, weight.flatten(1, 2).transpose(1, 2))
    return product.unflatten(2, weight.shape[1:3])


def network(config: Config, dataset: DataSet) -> nn.Module:
    """Build the network of a configuration for the classes of a data set."""
    size = config.data.image_size or dataset.image_size
    return zoo.build(
        config.model,
        classes=len(dataset.classes),
        channels=dataset.channels,
        image_size=size,
        options=config.options.get("model", {}),
    )
