"""Moving average of the weights: its formula, its counter, and exact restoration of the weights."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from distdl.core.errors import UserError
from distdl.optim.ema import EMA


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))


def move(model: nn.Module, step: int) -> None:
    """Imitate a training step: change the weights and statistics, and count one more batch."""
    generator = torch.Generator().manual_seed(step)
    model.train()(torch.randn(8, 1, 8, 8, generator=generator))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)


def test_the_average_follows_the_formula_with_early_decay() -> None:
    model = network()
    ema = EMA(model, decay=0.9)
    expected = {name: value.double().numpy().copy() for name, value in model.state_dict().items()}
    for n in range(120):
        move(model, n)
        ema.update(model)
        decay = min(0.9, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            new = value.double().numpy()
            expected[name] = decay * expected[name] + (1 - decay) * new if value.is_floating_point() else new.copy()
    assert ema.updates == 120
    for name, value in expected.items():
        np.testing.assert_allclose(ema.average[name].numpy(), value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert ema.average["1.num_batches_tracked"] == 120


def test_a_resumed_average_has_the_same_bits() -> None:
    """The state includes the counter; some trainers restart the early decay after a resume."""
    straight = EMA(model := network(), decay=0.99)
    for step in range(20):
        move(model, step)
        straight.update(model)

    half = EMA(model := network(), decay=0.99)
    for step in range(9):
        move(model, step)
        half.update(model)
    torch.save(half.state_dict(), file := io.BytesIO())
    file.seek(0)
    resumed = EMA(network(), decay=0.99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(9, 20):
        move(model, step)
        resumed.update(model)
    assert resumed.updates == straight.updates
    assert all(torch.equal(resumed.average[name], value) for name, value in straight.average.items())


def test_swapped_uses_the_average_and_restores_the_weights() -> None:
    model = network()
    ema = EMA(model, decay=0.5)
    move(model, 0)
    ema.update(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    places = [parameter.data_ptr() for parameter in model.parameters()]
    with pytest.raises(ZeroDivisionError), ema.swapped(model):
        assert all(torch.equal(value, ema.average[name]) for name, value in model.state_dict().items())
        assert not torch.equal(model[0].weight, weights["0.weight"])
        _ = 1 / 0
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_weights_are_not_averaged() -> None:
    model = network()
    ema = EMA(model, decay=0.999)
    with torch.no_grad():
        model[3].weight += 1
    for _ in range(5):
        ema.update(model)
    assert torch.equal(ema.average["0.weight"], model[0].weight)


def test_the_average_of_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="another network"):
        EMA(network(), 0.9).load_state_dict(EMA(nn.Linear(2, 2), 0.9).state_dict())
