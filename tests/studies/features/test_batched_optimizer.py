"""Trials that are trained as one batch equal those that torch.optim trains one by one."""

import pytest
import torch
from torch.nn import functional as F

from distdl.studies.features.batched_optimizer import Setting, StackedOptimizer

SETTINGS = [
    Setting(kind="sgd", lr=0.1),
    Setting(kind="sgd", lr=0.01, momentum=0.9),
    Setting(kind="sgd", lr=0.3, momentum=0.99),
    Setting(kind="adagrad", lr=0.5, eps=1e-10),
    Setting(kind="adagrad", lr=0.01, eps=1e-6),
    Setting(kind="adam", lr=0.1, beta1=0.8, beta2=0.8, eps=1e-9),
    Setting(kind="adam", lr=0.001),
    Setting(kind="adam", lr=0.01, beta1=0.99, beta2=0.95, eps=1e-7),
]
STEPS = 50


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 5, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(STEPS)]


def stacked(settings: list[Setting]) -> torch.Tensor:
    weight = torch.zeros(len(settings), 3, 5, requires_grad=True)
    bias = torch.zeros(len(settings), 3, requires_grad=True)
    optimizer = StackedOptimizer([weight, bias], settings)
    for images, labels in batches():
        logits = torch.einsum("bi,toi->bto", images, weight) + bias
        target = labels[:, None].expand(-1, len(settings))
        losses = F.cross_entropy(logits.movedim(2, 1), target, reduction="none").mean(0)
        optimizer.step(torch.autograd.grad(losses.sum(), [weight, bias]))
    return torch.cat([weight.detach().flatten(1), bias.detach()], 1)


def alone(setting: Setting) -> torch.Tensor:
    weight, bias = torch.zeros(3, 5, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=setting.lr, momentum=setting.momentum),
        "adagrad": lambda p: torch.optim.Adagrad(p, lr=setting.lr, eps=setting.eps),
        "adam": lambda p: torch.optim.Adam(p, setting.lr, betas=(setting.beta1, setting.beta2), eps=setting.eps),
    }[setting.kind]([weight, bias])
    for images, labels in batches():
        optimizer.zero_grad()
        F.cross_entropy(F.linear(images, weight, bias), labels).backward()
        optimizer.step()
    return torch.cat([weight.detach().flatten(), bias.detach()])


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_each_trial_equals_torchs_within_1e_6(number: int) -> None:
    batched, single = stacked(SETTINGS)[number], alone(SETTINGS[number])
    assert single.abs().max() > 0.01  # the weights have changed
    assert torch.allclose(batched, single, rtol=1e-6, atol=1e-6 * float(single.abs().max()))


def test_a_diverging_trial_does_not_affect_the_others() -> None:
    weight = torch.tensor([1.0, 1.0], requires_grad=True)
    optimizer = StackedOptimizer([weight], [Setting(kind="sgd", lr=100.0), Setting(kind="sgd", lr=0.1)])
    for _ in range(100):
        optimizer.step(torch.autograd.grad((weight**4).sum(), [weight]))
    assert not weight[0].isfinite() and 0 < weight[1] < 0.5


@pytest.mark.parametrize("settings", [SETTINGS[:1], [SETTINGS[0], SETTINGS[3], SETTINGS[1]]])
def test_invalid_settings_are_refused(settings: list[Setting]) -> None:
    with pytest.raises(ValueError, match="one setting per trial"):
        StackedOptimizer([torch.zeros(3, 2)], settings)
