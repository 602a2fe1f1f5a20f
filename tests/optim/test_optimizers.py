"""Tests of every optimizer, with one row per configuration: learning, exact resume, and invalid states."""

import io
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distdl.core.config import ModelConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.models import build as zoo
from distdl.optim import optimizers, schedules
from gpu_fake import on_gpu

OPTIMIZERS = [
    OptimConfig(name="sgd", lr=0.1),
    OptimConfig(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    OptimConfig(name="adam", lr=0.01, weight_decay=1e-4),
    OptimConfig(name="adamw", lr=0.01, weight_decay=0.01, decay_norm_and_bias=False),
    OptimConfig(name="adagrad", lr=0.03),
    OptimConfig(name="rmsprop", lr=0.002, momentum=0.5),
    OptimConfig(name="lars", lr=8.0, momentum=0.9, weight_decay=1e-4),
    OptimConfig(name="lamb", lr=0.05, weight_decay=0.01, decay_norm_and_bias=False),
]
all_optimizers = pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda c: f"{c.name}-{c.momentum}")


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)


def network() -> nn.Module:
    torch.manual_seed(0)
    return zoo.build(ModelConfig(name="digits-cnn"), classes=10, channels=1, image_size=8)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, digits: tuple, steps: range) -> list[float]:
    losses = []
    for step in steps:
        schedules.apply(optimizer, 1 / (1 + step / 20))
        rows = slice(step * 64, step * 64 + 64)
        loss = F.cross_entropy(model(digits[0][rows]), digits[1][rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@all_optimizers
def test_the_optimizer_learns_digits(config: OptimConfig, digits: tuple) -> None:
    model = network()
    losses = train(model, optimizers.build(config, model, global_batch=64), digits, range(20))
    assert losses[0] > 2.2
    assert np.mean(losses[-3:]) < 1.5


@all_optimizers
def test_a_resumed_optimizer_gives_the_same_bits(config: OptimConfig, digits: tuple) -> None:
    straight = network()
    train(straight, optimizers.build(config, straight, global_batch=64), digits, range(20))

    model = network()
    optimizer = optimizers.build(config, model, global_batch=64)
    train(model, optimizer, digits, range(9))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = network()
    resumed.load_state_dict(state["model"])
    optimizer = optimizers.build(config, resumed, global_batch=64)
    optimizer.load_state_dict(state["optimizer"])
    train(resumed, optimizer, digits, range(9, 20))

    for expected, got in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, got)


@all_optimizers
def test_a_state_with_a_missing_or_misshapen_part_is_refused(config: OptimConfig, digits: tuple) -> None:
    model = network()
    optimizer = optimizers.build(config, model, global_batch=64)
    train(model, optimizer, digits, range(2))
    moments = optimizer.state_dict()["state"].get(0, {})
    for name, value in moments.items():
        for odd in (None, "x", value[None], value.to(torch.int8)):
            state = optimizer.state_dict()
            state["state"] = state["state"] | {0: moments | {name: odd}}
            with pytest.raises(ValueError, match=rf"state\.0\.{name}"):
                optimizer.load_state_dict(state)


@pytest.mark.parametrize(("momentum", "new_momentum"), [(0.0, 0.9), (0.9, 0.0)])
def test_momentum_may_be_switched_on_or_off_at_a_resume(momentum: float, new_momentum: float, digits: tuple) -> None:
    model = network()
    old = optimizers.build(OptimConfig(name="sgd", lr=0.1, momentum=momentum), model, global_batch=64)
    train(model, old, digits, range(2))
    new = optimizers.build(OptimConfig(name="sgd", lr=0.1, momentum=new_momentum), model, global_batch=64)
    new.load_state_dict(old.state_dict())
    assert all(math.isfinite(loss) for loss in train(model, new, digits, range(2, 4)))


def test_a_resume_restores_moments_and_uses_the_new_settings(digits: tuple) -> None:
    model = network()
    old = optimizers.build(OptimConfig(name="lamb", lr=0.05, lr_reference_batch=64), model, global_batch=64)
    train(model, old, digits, range(5))
    new = optimizers.build(
        OptimConfig(name="lamb", lr=0.02, lr_reference_batch=64, weight_decay=0.1), model, global_batch=128
    )
    new.load_state_dict(old.state_dict())
    (group,) = new.param_groups
    assert group["peak_lr"] == pytest.approx(0.04)
    assert group["weight_decay"] == 0.1
    assert group["step"] == 5
    first = group["params"][0]
    assert torch.equal(new.state[first]["exp_avg"], old.state[first]["exp_avg"])


def by_formula(config: OptimConfig, w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Weights after steps by the published formulas; weight decay is an L2 penalty, except in adamw."""
    m, v, (beta_1, beta_2) = np.zeros_like(w), np.zeros_like(w), config.betas
    for t, gradient in enumerate(gradients, start=1):
        g = gradient if config.name == "adamw" else gradient + config.weight_decay * w
        match config.name:
            case "sgd":
                m = config.momentum * m + g
                update = g + config.momentum * m if config.nesterov else m
            case "adagrad":
                v = v + g**2
                update = g / (np.sqrt(v) + config.eps)
            case "rmsprop":
                v = config.alpha * v + (1 - config.alpha) * g**2
                update = m = config.momentum * m + g / (np.sqrt(v) + config.eps)
            case _:
                m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
                update = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + config.eps)
        decay = config.weight_decay * w if config.name == "adamw" else 0.0
        w = w - config.lr * (update + decay)
    return w


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.8},
        {"name": "sgd", "momentum": 0.8, "nesterov": True},
        {"name": "adam", "betas": (0.7, 0.8), "eps": 0.1},
        {"name": "adamw", "betas": (0.7, 0.8), "eps": 0.1},
        {"name": "adagrad", "eps": 0.1},
        {"name": "rmsprop", "momentum": 0.8, "alpha": 0.7, "eps": 0.1},
    ],
)
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_an_optimizer_matches_its_formula(fields: dict[str, Any], decay: float) -> None:
    layer, rng = nn.Linear(5, 3, bias=False).double(), np.random.default_rng(0)
    config = OptimConfig(lr=0.03, weight_decay=decay, **fields)
    optimizer = optimizers.build(config, layer, global_batch=1)
    weights, gradients = layer.weight.detach().numpy().copy(), [rng.normal(size=(3, 5)) for _ in range(4)]
    for gradient in gradients:
        layer.weight.grad = torch.tensor(gradient)
        optimizer.step()
    np.testing.assert_allclose(layer.weight.detach().numpy(), by_formula(config, weights, gradients), rtol=1e-7)


def test_lars_matches_its_paper() -> None:
    """You et al. 2017, Algorithm 1, with learning rate 1 and trust coefficient 0.001, also without weight decay."""
    rng = np.random.default_rng(0)
    for decay in (0.0, 0.1):
        layer = nn.Linear(5, 3, bias=False).double()
        config = OptimConfig(name="lars", lr=2.0, momentum=0.9, weight_decay=decay)
        optimizer = optimizers.build(config, layer, global_batch=1)
        w, v = layer.weight.detach().numpy().copy(), 0.0
        for _ in range(3):
            g = rng.normal(size=(3, 5))
            layer.weight.grad = torch.tensor(g)
            optimizer.step()
            local = 0.001 * np.linalg.norm(w) / (np.linalg.norm(g) + decay * np.linalg.norm(w))
            v = 0.9 * v + local * (g + decay * w)
            w = w - 2.0 * v
        np.testing.assert_allclose(layer.weight.detach().numpy(), w, rtol=1e-7)


def test_lamb_matches_its_paper() -> None:
    """You et al. 2020, Algorithm 2, with phi(z) = z."""
    rng = np.random.default_rng(0)
    for decay in (0.0, 0.1):
        layer = nn.Linear(5, 3, bias=False).double()
        config = OptimConfig(name="lamb", lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=decay)
        optimizer = optimizers.build(config, layer, global_batch=1)
        w, m, v = layer.weight.detach().numpy().copy(), 0.0, 0.0
        for t in range(1, 4):
            g = 10 * rng.normal(size=(3, 5))  # a norm above 1, to detect clipping of gradients
            layer.weight.grad = torch.tensor(g)
            optimizer.step()
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
            r = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-6) + decay * w
            w = w - 0.1 * np.linalg.norm(w) / np.linalg.norm(r) * r
        np.testing.assert_allclose(layer.weight.detach().numpy(), w, rtol=1e-7)


def test_groups_have_rates_by_name_and_weight_decay_by_kind() -> None:
    model = network()
    model.features[0].requires_grad_(False)
    factors = (("features.*", 0.1), ("*.bias", 3.0))
    config = OptimConfig(lr=0.2, lr_reference_batch=32, lr_factors=factors, weight_decay=0.5, decay_norm_and_bias=False)
    optimizer = optimizers.build(config, model, global_batch=128)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    got = {
        names[id(parameter)]: (group["peak_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert got == {
        "features.2.weight": (pytest.approx(0.08), 0.5),
        "features.2.bias": (pytest.approx(0.08), 0.0),  # the first matching pattern wins
        "classifier.0.weight": (pytest.approx(0.8), 0.5),
        "classifier.0.bias": (pytest.approx(2.4), 0.0),
        "classifier.2.weight": (pytest.approx(0.8), 0.5),
        "classifier.2.bias": (pytest.approx(2.4), 0.0),
    }
    schedules.apply(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [g["peak_lr"] / 2 for g in optimizer.param_groups]


def test_biases_without_weight_decay_have_no_layer_wise_rate() -> None:
    layer = nn.Linear(4, 2)
    config = OptimConfig(name="lars", lr=1.0, weight_decay=0.1, decay_norm_and_bias=False)
    optimizer = optimizers.build(config, layer, global_batch=1)
    previous = layer.bias.detach().clone()
    layer.weight.grad, layer.bias.grad = torch.ones(2, 4), torch.ones(2)
    optimizer.step()
    assert torch.equal(layer.bias.detach(), previous - 1.0)


def test_a_pattern_without_a_match_names_the_nearest_parameter() -> None:
    with pytest.raises(UserError, match=r'optim.lr_factors.*"feature.\*"; did you mean "features.\*"\?'):
        optimizers.build(OptimConfig(lr_factors=(("feature.*", 0.1),)), network(), global_batch=1)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_the_error_for_missing_timm_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"timm.optim.{name}", None)
    with pytest.raises(UserError, match=r"timm.*distdl\[large-batch\]"):
        optimizers.build(OptimConfig(name=name), network(), global_batch=1)


def test_state_size_is_counted_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    assert len(optimizers.build(OptimConfig(name="adamw"), model, global_batch=1).param_groups) == 1


def test_kernels_are_fused_if_all_devices_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fused: list[bool] = []
    monkeypatch.setattr(optimizers, "make", lambda groups, config, is_fused, options: fused.append(is_fused))
    cpu, meta, gpu = torch.zeros(2, 2), torch.zeros(2, 2, device="meta"), on_gpu(torch.zeros(2, 2))
    for tensors in ((cpu,), (gpu,), (cpu, gpu), (meta,), (cpu, meta)):
        model = nn.ParameterList([nn.Parameter(tensor) for tensor in tensors])
        optimizers.build(OptimConfig(), model, global_batch=1, compiled=True)
    assert fused == [True, True, True, False, False]
