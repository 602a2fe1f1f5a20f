"""Trainers of one process on a few images, for unit tests."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.config import ComputeConfig, Config, DataConfig, ModelConfig, TelemetryConfig
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load
from distdl.training.events import Callback
from distdl.training.trainer import Trainer
from trainers import trainers

SMALL: dict[str, Any] = {
    "data": DataConfig(limit=96, batch_size=32),
    "model": ModelConfig(name="softmax"),
    "compute": ComputeConfig(threads=1),
    "progress": "none",
    "telemetry": TelemetryConfig(hz=0.0),
}
"""96 training images in 3 steps per epoch."""


@pytest.fixture(scope="session")
def digits() -> Callable[[DataConfig], DataSet]:
    """Data sets by configuration, each loaded once."""
    return functools.cache(load)


@pytest.fixture
def small() -> Callable[..., Config]:
    """Makes configurations of a short training with the given fields."""
    return lambda **fields: Config(**{**SMALL, **fields})


@pytest.fixture
def make(tmp_path: Path, small: Callable[..., Config], digits: Callable[[DataConfig], DataSet]) -> Iterator:
    """Builds trainers of one process; their signal handlers and torch's settings are restored afterwards."""
    flags = (torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    threads = torch.get_num_threads()
    with trainers(tmp_path / "run") as build:

        def configured(callbacks: Iterable[Callback] = (), **fields: object) -> Trainer:
            config = small(**fields)
            return build(config, digits(config.data), callbacks)

        yield configured
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
    torch.set_num_threads(threads)
