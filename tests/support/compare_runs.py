"""Final weights and results of runs, and their comparison."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.runtime.tensors import load

SGD = (
    *("--max-steps", "50", "--epochs", "100", "--evaluate-every", "100", "--schedule.name", "constant"),
    *("--optim.name", "sgd", "--optim.lr", "0.05", "--optim.momentum", "0.9", "--optim.weight-decay", "0.0005"),
)
"""50 steps of SGD on digits."""


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = load(find(run, warn=pytest.fail))
    return state["model"]


def max_difference(run_a: Path, run_b: Path) -> float:
    """Largest absolute difference between the weights of two runs."""
    first, second = weights(run_a), weights(run_b)
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())
