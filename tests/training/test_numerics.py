"""Numerical settings of torch, and the precision of the forward pass."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from distdl.core.config import ComputeConfig, Config
from distdl.training import numerics


def settings() -> tuple[bool, bool, bool, bool]:
    """Determinism, cuDNN benchmark, TF32 of matrix products, TF32 of convolutions."""
    cudnn = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    return torch.are_deterministic_algorithms_enabled(), cudnn.benchmark, matmul.allow_tf32, cudnn.allow_tf32


@pytest.mark.usefixtures("make")  # it restores the settings
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_settings_follow_the_configuration_regardless_of_previous_ones(deterministic: bool, precision: str) -> None:
    torch.use_deterministic_algorithms(not deterministic)
    torch.backends.cudnn.benchmark = deterministic
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "fp32"
    numerics.configure(Config(deterministic=deterministic, compute=ComputeConfig(precision=precision)))
    reduced = precision != "fp32"
    assert settings() == (deterministic, not deterministic, reduced, reduced)


def test_a_trainer_applies_the_settings(make: Callable) -> None:
    make(deterministic=True, compute=ComputeConfig(precision="tf32", threads=1))
    assert settings() == (True, False, True, True)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_the_forward_pass_has_the_configured_precision(precision: str, dtype: torch.dtype) -> None:
    context = numerics.autocast(Config(compute=ComputeConfig(precision=precision)), torch.device("cpu"))
    layer, images = nn.Linear(3, 2), torch.ones(1, 3)
    for _ in range(2):
        with context:
            assert layer(images).dtype == dtype
        assert layer(images).dtype == torch.float32
