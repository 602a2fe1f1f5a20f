"""A training on k ranks, computed by hand in one process: an independent result to compare each strategy with.

Every rank has its own copy of the network, with its own BatchNorm statistics and dropout masks. One step is written
out: the gradient of each rank's share, their sum, clipping, SGD with momentum, and the moving average of rank 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distdl.core.config import Config
from distdl.data.dataset import Batch
from distdl.data.loaders import make_loader
from distdl.data.sets.load import load
from distdl.runtime.world import World
from distdl.training.building import network
from distdl.training.step import step_seed

SCALE = 65536.0
"""Initial loss scale of fp16. Gradients of this size must not overflow in the simulated steps."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """End of a simulated training."""

    weights: Mapping[str, Tensor]
    """Parameters and buffers of rank 0."""
    average: Mapping[str, Tensor]
    """Moving average of rank 0; empty without one."""
    test: Mapping[str, float]
    """Accuracy and loss of all test samples with the weights that rank 0 saves."""
    test_of_others: Sequence[float]
    """Loss of the same weights with the BatchNorm statistics of each other rank."""
    steps: int
    images: int


def simulate(config: Config, ranks: int) -> Simulated:
    """Train without a strategy, and evaluate."""
    dataset = load(config.data)
    models = [network(config, dataset, config.seed).train() for _ in range(ranks)]
    fp16 = config.compute.precision == "fp16"
    scale, step, images = SCALE if fp16 else 1.0, 0, 0
    momentum = [torch.zeros_like(parameter) for parameter in models[0].parameters()]
    average = {name: tensor.clone() for name, tensor in models[0].state_dict().items()} if config.optim.ema else {}
    for parts in _steps(config, ranks):
        total = sum(part.count for part in parts)
        gradients = [torch.zeros_like(parameter) for parameter in models[0].parameters()]
        for rank, (model, part) in enumerate(zip(models, parts, strict=True)):
            torch.manual_seed(step_seed(config.seed, step, rank))
            for loss in _losses(config, model, part, total, fp16):
                (loss * ranks * scale).backward()
            for gradient, parameter in zip(gradients, model.parameters(), strict=True):
                gradient += parameter.grad / ranks
                parameter.grad = None
        gradients = [gradient / scale for gradient in gradients]
        assert all(gradient.isfinite().all() for gradient in gradients)
        _update(config, models, gradients, momentum)
        _average(config.optim.ema, average, models[0], step)
        step, images = step + 1, images + total
    test = _test(config, average or models[0].state_dict(), models[0])
    buffers = [dict(model.named_buffers()) for model in models[1:]]
    others = [_test(config, {**models[0].state_dict(), **other}, models[0])["loss"] for other in buffers]
    weights = models[0].state_dict()
    return Simulated(weights=weights, average=average, test=test, test_of_others=others, steps=step, images=images)


def _steps(config: Config, ranks: int) -> Iterator[tuple[Batch, ...]]:
    """Yield the batches of all ranks in each step of all epochs."""
    dataset = load(config.data)
    worlds = [World(rank=rank, size=ranks) for rank in range(ranks)]
    loaders = [make_loader(config, dataset, dataset.train, world, training=True) for world in worlds]
    for epoch in range(config.epochs):
        yield from zip(*(loader.epoch(epoch) for loader in loaders), strict=True)
    for loader in loaders:
        loader.close()


def _losses(config: Config, model: nn.Module, part: Batch, total: int, fp16: bool) -> Iterator[Tensor]:
    """Yield the share of each micro-batch in the mean loss of all `total` samples of the step."""
    chunks = config.optim.accumulate
    for images, labels in zip(part.images.tensor_split(chunks), part.labels.tensor_split(chunks), strict=True):
        with torch.autocast("cpu", torch.float16, enabled=fp16):
            yield F.cross_entropy(model(images), labels) * min(len(images), part.count) / total


@torch.no_grad()
def _update(config: Config, models: list[nn.Module], gradients: list[Tensor], momentum: list[Tensor]) -> None:
    """Clip the gradients and update the weights of all ranks by SGD with momentum."""
    optim = config.optim
    norm = sum(gradient.square().sum() for gradient in gradients) ** 0.5
    factor = min(1.0, optim.clip_norm / float(norm)) if optim.clip_norm else 1.0
    for index, gradient in enumerate(gradients):
        momentum[index].mul_(optim.momentum).add_(gradient * factor)
        for model in models:
            [*model.parameters()][index].sub_(optim.lr * momentum[index])


@torch.no_grad()
def _average(ema: float, average: Mapping[str, Tensor], model: nn.Module, updates: int) -> None:
    decay = min(ema, (1 + updates) / (10 + updates))
    for name, value in model.state_dict().items():
        if name in average:
            is_count = not value.is_floating_point()
            average[name].copy_(value if is_count else decay * average[name] + (1 - decay) * value)


@torch.no_grad()
def _test(config: Config, weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, float]:
    """Evaluate all test samples in one batch."""
    dataset = load(config.data)
    images = torch.from_numpy(dataset.test.images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (dataset.mean, dataset.std))
    labels = torch.from_numpy(dataset.test.labels)
    with torch.autocast("cpu", torch.float16, enabled=config.compute.precision == "fp16"):
        logits = torch.func.functional_call(model.eval(), dict(weights), ((images - mean) / std,)).float()
    accuracy = (logits.argmax(1) == labels).double().mean()
    return {"accuracy": float(accuracy), "loss": float(F.cross_entropy(logits, labels))}
