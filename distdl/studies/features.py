"""A frozen network as a feature extractor: its features computed once an image, and last layers trained on them.

What is frozen gives the same features in every epoch and at every learning rate. So they are kept, and a whole grid of
rates and seeds is trained on what is kept, all of it at once. Each last layer comes out as `distdl.train` would have
trained it with `--model.train-only` and no augmentation: same first weights, same order, same optimizer and schedule.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distdl.config import Config
from distdl.data import order
from distdl.data.base import DataSet, Split
from distdl.data.datasets import load
from distdl.data.loaders import make_loader
from distdl.errors import UserError
from distdl.models import parts, zoo
from distdl.optim import optimizers, schedules
from distdl.resolve import from_command_line
from distdl.rundir import write_atomic
from distdl.strategies.device import device_for
from distdl.world import World

FILE = "features.safetensors"
SAME = 1e-4
"""Largest difference, as a share of the largest logit, at which kept features count as the network's own."""

Kept = dict[str, tuple[Tensor, Tensor]]
"""By split: features [n, d] float32 and labels [n] int64, in the split's order."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """One last layer's training. Accuracies are shares."""

    lr: float
    seed: int
    best_epoch: int
    """Epochs trained when the validation was best; its weights are those that are tested."""
    validation: float
    test: float
    curve: tuple[tuple[int, float], ...]
    """Epochs trained and accuracy on the validation (the test, where there is none), at each evaluation."""
    loss: float | None
    """Mean training loss of the last epoch; None where it is no number."""


def grid(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """A study's trial: features of `table["words"]`'s network and set, kept in `folder`, and the grid on them.

    Args:
        table: `words` of `distdl.train`; `rates` and `seeds` (a count) of the grid.
    """
    config = from_command_line(table["words"], strategy="single")
    world = World(device=device_for(config.compute, local_rank=0, local_size=1))
    dataset = load(config.data)
    file = folder / FILE
    began = time.perf_counter()
    if not file.exists():
        keep(file, compute(config, dataset, world))
    kept = read(file, world.device)
    between = time.perf_counter()
    heads = train(kept, config, dataset, table["rates"], range(int(table["seeds"])))
    width = kept["train"][0].shape[1]
    return {
        "heads": [dataclasses.asdict(head) for head in heads],
        "images": sum(len(labels) for _, labels in kept.values()),
        "dimensions": width,
        "parameters": (width + 1) * len(dataset.classes),
        "features_s": between - began,
        "heads_s": time.perf_counter() - between,
    }


@torch.no_grad()
def compute(config: Config, dataset: DataSet, world: World) -> Kept:
    """What the network's last layer is given for each image, in evaluation mode and without augmentation.

    Raises:
        UserError: the network starts from scratch, or does more after its last layer than to average it over pixels.
    """
    if config.model.weights == "none":
        raise UserError("a feature extractor needs weights: name them by model.weights")
    network = _network(config, dataset).to(world.device).eval()
    head = network.get_submodule(parts.head(network))
    given: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    kept: Kept = {}
    plain = dataclasses.replace(config, data=dataclasses.replace(config.data, ten_crop=False))
    for name in ("train", "validation", "test"):
        split: Split | None = getattr(dataset, name)
        if split is None:
            continue
        if split.labels.ndim > 1:
            raise UserError("kept features have one label an image: data.labels gives several")
        loader = make_loader(plain, dataset, split, world, training=False)
        features, labels = [], []
        for batch in loader.epoch(0):
            logits = network(batch.images)
            features.append(_pooled(given.pop()))
            if not labels:
                _check(F.linear(features[0], head.weight.flatten(1), head.bias), logits, config.model.name)
            labels.append(batch.labels)
        loader.close()
        kept[name] = torch.cat(features), torch.cat(labels)
    hook.remove()
    return kept


def _pooled(given: Tensor) -> Tensor:
    # A 1 x 1 convolution averaged over pixels is the convolution of the average.
    return given.mean(dim=(2, 3)) if given.dim() == 4 else given


def _check(ours: Tensor, logits: Tensor, name: str) -> None:
    if ours.shape != logits.shape or (ours - logits).abs().max() > SAME * logits.abs().max():
        raise UserError(f"{name} does more after its last layer than average it: train it by model.train_only instead")


def _network(config: Config, dataset: DataSet) -> nn.Module:
    size = config.data.image_size or dataset.image_size
    return zoo.build(config.model, classes=len(dataset.classes), channels=dataset.channels, image_size=size)


def keep(file: Path, kept: Kept) -> None:
    """Write features as safetensors: SPLIT.features and SPLIT.labels."""
    from safetensors.torch import save

    tensors = {f"{name}.features": features.cpu().contiguous() for name, (features, _) in kept.items()}
    tensors |= {f"{name}.labels": labels.cpu() for name, (_, labels) in kept.items()}
    write_atomic(file, lambda sink: sink.write(save(tensors)))


def read(file: Path, device: torch.device) -> Kept:
    """What `keep` wrote."""
    from safetensors.torch import load_file

    tensors = load_file(file, device=str(device))
    names = [name.removesuffix(".labels") for name in tensors if name.endswith(".labels")]
    return {name: (tensors[f"{name}.features"], tensors[f"{name}.labels"]) for name in names}


def train(kept: Kept, config: Config, dataset: DataSet, rates: Sequence[float], seeds: Sequence[int]) -> list[Head]:
    """Train a last layer for every seed at every rate, all at once; in the order of seeds, then rates."""
    if unfit := [name for name, value in _unfit(config).items() if value]:
        raise UserError(f"a grid of last layers has no {unfit[0]}: leave it out")
    stack = _Stack.of([_first_head(config, dataset, seed) for seed in seeds], len(rates), kept["train"][0].device)
    steps = [optimizers.build(_at(config, lr), stack.layer(s, r), global_batch=config.data.batch_size)
             for s in range(len(seeds)) for r, lr in enumerate(rates)]  # fmt: skip
    features, labels = kept["train"]
    judge = kept.get("validation", kept["test"])
    n, batch, epochs = len(labels), config.data.batch_size, float(config.epochs)
    best, best_epoch = torch.full(stack.shape, -1.0), torch.zeros(stack.shape, dtype=torch.int64)
    chosen, curve, losses = stack.copy(), [], torch.full(stack.shape, math.nan)
    for epoch in range(config.epochs):
        sequences = np.stack([order.order(seed, epoch, n) for seed in seeds])
        total = torch.zeros(stack.shape, device=features.device)
        count = order.steps(n, batch, drop_last=config.data.drop_last)
        for step in range(count):
            factor = schedules.factor(config.schedule, epoch + step * batch / n, epochs)
            members = torch.from_numpy(sequences[:, step * batch : (step + 1) * batch]).to(features.device)
            total += stack.step(features[members], labels[members], config.optim.label_smoothing)
            for optimizer in steps:
                schedules.apply(optimizer, factor)
                optimizer.step()
        losses = (total / count).cpu()
        if (epoch + 1) % config.evaluate_every and epoch + 1 < config.epochs:
            continue
        accuracy = stack.accuracy(*judge)
        curve.append((epoch + 1, accuracy))
        better = accuracy > best
        best, best_epoch = torch.where(better, accuracy, best), torch.where(better, epoch + 1, best_epoch)
        chosen.take(stack, better)
    test = chosen.accuracy(*kept["test"])
    return [
        Head(
            lr=lr,
            seed=seed,
            best_epoch=int(best_epoch[s, r]),
            validation=float(best[s, r]),
            test=float(test[s, r]),
            curve=tuple((epoch, float(accuracy[s, r])) for epoch, accuracy in curve),
            loss=float(losses[s, r]) if math.isfinite(losses[s, r]) else None,
        )
        for s, seed in enumerate(seeds)
        for r, lr in enumerate(rates)
    ]


def _unfit(config: Config) -> dict[str, Any]:
    """What training on kept features cannot do."""
    return {
        "augmentation": config.data.augment != type(config.data.augment)(),
        "optim.clip_norm": config.optim.clip_norm,
        "optim.ema": config.optim.ema,
        "optim.accumulate": config.optim.accumulate > 1,
        "max_steps": config.max_steps,
    }


def _at(config: Config, lr: float) -> Any:
    return dataclasses.replace(config.optim, lr=lr, lr_factors=())


def _first_head(config: Config, dataset: DataSet, seed: int) -> nn.Module:
    """The last layer as `distdl.train --seed` initialises it: the whole network draws before it."""
    torch.manual_seed(seed)
    network = _network(config, dataset)
    return network.get_submodule(parts.head(network))


class _Stack:
    """Last layers [seeds, rates], whose tensors lie in one: a step of all is one product of matrices."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.shape = weight.shape[:2]
        self._layers: dict[tuple[int, int], nn.Linear] = {}

    @classmethod
    def of(cls, heads: Sequence[nn.Module], rates: int, device: torch.device) -> "_Stack":
        with torch.no_grad():
            weight = torch.stack([head.weight.flatten(1) for head in heads])[:, None].repeat(1, rates, 1, 1)
            zeros = torch.zeros(weight.shape[2])
            bias = torch.stack([zeros if head.bias is None else head.bias for head in heads])[:, None]
            return cls(weight.to(device), bias.repeat(1, rates, 1).to(device))

    def copy(self) -> "_Stack":
        return _Stack(self.weight.clone(), self.bias.clone())

    def take(self, other: "_Stack", where: Tensor) -> None:
        """Copy the layers of `other` at `where` [seeds, rates]."""
        where = where.to(self.weight.device)
        self.weight[where], self.bias[where] = other.weight[where], other.bias[where]

    def layer(self, seed: int, rate: int) -> nn.Linear:
        """One layer, as a view: what an optimizer does to it, it does to the stack."""
        layer = nn.Linear(1, 1, device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight[seed, rate]), nn.Parameter(self.bias[seed, rate])
        self._layers[seed, rate] = layer
        return layer

    def step(self, features: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Set each layer's gradients by a batch for each seed, [seeds, b, d] and [seeds, b]. Returns losses [s, r]."""
        weight, bias = self.weight.detach().requires_grad_(), self.bias.detach().requires_grad_()
        logits = _logits(features, weight, bias)
        wanted = labels[:, :, None].expand(logits.shape[:3])
        losses = F.cross_entropy(
            logits.flatten(0, 2), wanted.flatten(), label_smoothing=label_smoothing, reduction="none"
        )
        losses = losses.view(wanted.shape).mean(1)
        # torch's fused optimizers on the CPU read a gradient as it lies in memory, whatever its strides.
        by_weight, by_bias = (g.contiguous() for g in torch.autograd.grad(losses.sum(), [weight, bias]))
        for place, layer in self._layers.items():
            layer.weight.grad, layer.bias.grad = by_weight[place], by_bias[place]
        return losses.detach()

    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: Tensor, part: int = 4096) -> Tensor:
        """Share of right answers, [seeds, rates] on the CPU."""
        right = torch.zeros(self.shape, device=features.device)
        for some, wanted in zip(features.split(part), labels.split(part), strict=True):
            answers = _logits(some.expand(len(self.weight), -1, -1), self.weight, self.bias).argmax(-1)
            right += (answers == wanted[None, :, None]).sum(1)
        return (right / len(labels)).cpu()


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[s, b, d] features through [s, r, c, d] layers: [s, b, r, c]."""
    product = torch.baddbmm(bias.flatten(1)[:, None], features, weight.flatten(1, 2).transpose(1, 2))
    return product.unflatten(2, weight.shape[1:3])
