"""A few steps of a small network under a strategy, on one rank's share of a batch."""

import torch
import torch.nn.functional as F
from torch import nn

from distdl.optim import optimizers
from distdl.strategies.base import Strategy
from distdl.telemetry.clock import Clock

IMAGES = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 5


def network() -> nn.Module:
    """A network with a frozen part. It does not use torch's generator, which threads share, so all calls are equal."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(24, 5), nn.Linear(5, 5))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    model[3].requires_grad_(False)
    return model


def prepared(strategy: Strategy, model: nn.Module) -> nn.Module:
    """Prepare the model and return the module for the forward pass."""
    optimizer = optimizers.build(strategy.config.optim, model, global_batch=12)
    return strategy.prepare(model, optimizer, Clock())


def trained(strategy: Strategy, *, steps: int = 3, parts: int = 2) -> dict[str, torch.Tensor]:
    """Weights after a few steps with `parts` micro-batches each."""
    rank, ranks = strategy.world.rank, strategy.world.size
    forward = prepared(strategy, network())
    rows = torch.arange(12).tensor_split(ranks)[rank]
    for _ in range(steps):
        for index, chunk in enumerate(rows.tensor_split(parts)):
            with strategy.micro_batch(last=index == parts - 1):
                loss = F.cross_entropy(forward(IMAGES[chunk]), LABELS[chunk], reduction="sum")
                strategy.backward(loss * ranks / 12)
        strategy.step()
    strategy.sync_parameters()
    return {name: value.clone() for name, value in strategy.model_state().items()}


def max_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of the weights."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)
