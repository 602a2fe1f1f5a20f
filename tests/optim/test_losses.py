"""Losses by name or import target: means in training, sums in evaluation, and their settings."""

import pytest
import torch
import torch.nn.functional as F

from distdl.core.config import Config, OptimConfig
from distdl.core.errors import UserError
from distdl.optim import losses

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.1, 0.2], [1.0, 1.0, 3.0]])
LABELS = torch.tensor([0, 2, 1])


def hinge(logits: torch.Tensor, labels: torch.Tensor, *, margin: float = 1.0) -> torch.Tensor:
    """One value per sample."""
    return F.multi_margin_loss(logits, labels, margin=margin, reduction="none")


def mean_hinge(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return hinge(logits, labels).mean()


def test_cross_entropy_equals_torchs_and_is_evaluated_without_smoothing() -> None:
    config = Config(optim=OptimConfig(label_smoothing=0.1))
    assert torch.equal(losses.build(config)(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, label_smoothing=0.1))
    assert torch.equal(losses.build_sum(config)(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="sum"))


@pytest.mark.parametrize("name", ["hinge", "mean_hinge"])
def test_a_loss_of_another_package_returns_a_mean_or_values(name: str) -> None:
    config = Config(loss=f"{__name__}:{name}") if name == "hinge" else Config(loss=f"{__name__}:mean_hinge")
    values = hinge(LOGITS, LABELS)
    torch.testing.assert_close(losses.build(config)(LOGITS, LABELS), values.mean())
    torch.testing.assert_close(losses.build_sum(config)(LOGITS, LABELS), values.sum())


def test_settings_are_keyword_parameters() -> None:
    config = Config(loss=f"{__name__}:hinge", options={"loss": {"margin": "2.5"}})
    torch.testing.assert_close(losses.build(config)(LOGITS, LABELS), hinge(LOGITS, LABELS, margin=2.5).mean())
    with pytest.raises(UserError, match=r'options\.loss\.margn: .* did you mean "margin"'):
        losses.build(Config(loss=f"{__name__}:hinge", options={"loss": {"margn": 1}}))


def test_a_function_of_torch_is_a_loss() -> None:
    config = Config(loss="torch.nn.functional:multi_margin_loss", options={"loss": {"p": "2"}})
    expected = F.multi_margin_loss(LOGITS, LABELS, p=2, reduction="none")
    torch.testing.assert_close(losses.build(config)(LOGITS, LABELS), expected.mean())
    torch.testing.assert_close(losses.build_sum(config)(LOGITS, LABELS), expected.sum())
