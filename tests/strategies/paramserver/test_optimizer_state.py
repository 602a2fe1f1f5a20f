"""Division of the state of a server's optimizer into other parameter groups."""

from typing import Any

import pytest
import torch
from torch import nn

from distdl.core.config import OptimConfig
from distdl.optim import optimizers
from distdl.strategies.paramserver.optimizer_state import regrouped

ELEMENTS = 12
CONFIGS = {
    "sgd": OptimConfig(name="sgd", momentum=0.0),
    "momentum": OptimConfig(name="sgd", momentum=0.9),
    "adam": OptimConfig(name="adam"),
    "adamw": OptimConfig(name="adamw"),
}


def optimizer_of(config: OptimConfig, values: torch.Tensor, sizes: list[int]) -> torch.optim.Optimizer:
    """An optimizer over views of `values`, as in a server; each size is a group."""
    groups = []
    for part in values.split(sizes):
        parameter = nn.Parameter(part)
        parameter.grad = torch.zeros_like(part)
        groups.append({"params": [parameter], "lr": 0.1, "weight_decay": 0.0, "penalised": True})
    return optimizers.make(groups, config, True, {})


def step(optimizer: torch.optim.Optimizer, gradient: torch.Tensor) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, part in zip(parameters, gradient.split([each.numel() for each in parameters]), strict=True):
        parameter.grad.copy_(part)
    optimizer.step()


@pytest.mark.parametrize("saved_sizes", [[12], [5, 7], [1, 10, 1]], ids=str)
@pytest.mark.parametrize("sizes", [[12], [5, 7], [7, 5], [3, 3, 3, 3]], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_steps_after_another_division_are_those_without_it(name: str, saved_sizes: list[int], sizes: list[int]) -> None:
    gradients = torch.randn(4, ELEMENTS, generator=torch.Generator().manual_seed(0))
    expected, values = torch.ones(ELEMENTS), torch.ones(ELEMENTS)
    undivided = optimizer_of(CONFIGS[name], expected, [ELEMENTS])
    for gradient in gradients:
        step(undivided, gradient)
    first = optimizer_of(CONFIGS[name], values, saved_sizes)
    for gradient in gradients[:2]:
        step(first, gradient)
    second = optimizer_of(CONFIGS[name], values, sizes)
    second.load_state_dict(regrouped(first.state_dict(), second))
    for gradient in gradients[2:]:
        step(second, gradient)
    assert torch.allclose(values, expected, rtol=1e-6, atol=1e-6)  # vector instructions round in another order


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("state"),
        lambda state: state["state"].pop(0),
        lambda state: state["state"][0].pop("exp_avg"),
        lambda state: state["state"][0].update(exp_avg=torch.zeros(3)),
        lambda state: state["state"][0].update(exp_avg="text"),
        lambda state: state.update(param_groups=None),
    ],
)
def test_the_optimizer_refuses_a_state_of_other_elements(change: Any) -> None:
    first = optimizer_of(CONFIGS["adam"], torch.ones(ELEMENTS), [5, 7])
    step(first, torch.ones(ELEMENTS))
    state = first.state_dict()
    change(state)
    second = optimizer_of(CONFIGS["adam"], torch.ones(ELEMENTS), [7, 5])
    with pytest.raises(ValueError):
        second.load_state_dict(regrouped(state, second))
