"""Horovod's broadcast of an optimizer's state and options, for each optimizer of this PyTorch. Run it on two ranks:

    horovodrun --gloo -np 2 python containers/horovod/optimizers.py

Each rank trains one step with its own options and data; after the broadcast all ranks must have rank 0's. Rank 0 prints
one JSON object: "passed", or the error, by optimizer. README.md in this folder states the purpose.
"""

import inspect
import json
from typing import Any

import horovod.torch as hvd
import torch
from torch import nn

OPTIONS: tuple[dict[str, Any], ...] = (
    {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.2, "betas": (0.9, 0.999), "centered": True},
    {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.1, "betas": (0.8, 0.9), "centered": True},
)
"""Options of rank 0 and of the other ranks. Options that determine the tensors of a state are the same."""
EXCLUDED = ("LBFGS", "SparseAdam")
"""Optimizers that need a closure or sparse gradients. Horovod's own tests exclude them too."""


def main() -> None:
    """Try each optimizer, also after an error of another one."""
    hvd.init()
    torch.manual_seed(hvd.rank())
    kinds = {kind.__name__: kind for kind in torch.optim.Optimizer.__subclasses__()}
    outcomes = {}
    for name in sorted(kinds):
        if kinds[name].__module__.startswith("torch.optim") and name not in EXCLUDED:
            try:
                broadcast(kinds[name])
                outcomes[name] = "passed"
            except (AssertionError, ValueError, TypeError, RuntimeError) as error:
                outcomes[name] = f"{type(error).__name__}: {error}"
    if hvd.rank() == 0:
        print(json.dumps(outcomes, indent=2))


def broadcast(kind: Any) -> None:
    """Train one step on each rank, broadcast, compare with rank 0, and train another step."""
    model = nn.Sequential(nn.Linear(100, 10), nn.ReLU(), nn.Linear(10, 10))
    accepted = inspect.signature(kind.__init__).parameters
    chosen = {name: value for name, value in OPTIONS[min(hvd.rank(), 1)].items() if name in accepted}
    optimizer = kind(model.parameters(), **chosen)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    step(model, optimizer)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    state = optimizer.state_dict()
    matches = equal(state, hvd.broadcast_object(state, root_rank=0))
    step(model, optimizer)
    assert all(hvd.allgather_object(matches)), "the state or an option differs from rank 0's"


def step(model: nn.Module, optimizer: Any) -> None:
    """Train on this rank's own data."""
    optimizer.zero_grad()
    nn.functional.mse_loss(model(torch.randn(64, 100)), torch.randn(64, 10), reduction="sum").backward()
    optimizer.step()


def equal(first: Any, second: Any) -> bool:
    """Whether two nested states are equal, options to 1e-5."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if torch.is_tensor(first):
        return torch.equal(first, second)
    if isinstance(first, float):
        return abs(first - second) <= 1e-5  # Horovod sends options in single precision
    return first == second


if __name__ == "__main__":
    main()
