"""Numerical settings of torch for a training."""

from contextlib import AbstractContextManager, nullcontext

import torch

from distdl.core.config import Config
from distdl.runtime.device import REDUCED_PRECISION


def configure(config: Config) -> None:
    """Set TF32, cuDNN autotuning and determinism for this process."""
    tf32 = config.compute.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports inductor: 2 s
        torch.use_deterministic_algorithms(config.deterministic)


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """Context of the forward pass in the configured precision. It can be entered again, but not nested."""
    dtype = REDUCED_PRECISION.get(config.compute.precision)
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
