"""`--ps.compute replay:FILE`: recorded compute times are waited for instead of computing; gradients are exchanged."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distdl.core.errors import UserError
from distdl.core.userfiles import read_text
from distdl.runtime.world import World


class Replay(nn.Module):
    """Replacement of a network whose forward and backward take as long as those of a randomly sampled recorded step.

    Each rank samples from a separate random stream of one seed: workers vary like the recorded steps, and a run is
    reproducible.

    Args:
        seconds: [n, 2] recorded seconds of forward and backward.
        classes: number of logits.
    """

    def __init__(self, seconds: np.ndarray, classes: int, seed: int) -> None:
        super().__init__()
        self.seconds, self._rng = seconds, np.random.default_rng(seed)
        self.output = nn.Parameter(torch.zeros(1, classes))
        self._backward_s = 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return constant logits [b, classes] after the time of a forward pass."""
        forward_s, self._backward_s = self.seconds[self._rng.integers(len(self.seconds))]
        wait(forward_s)
        return self.output.expand(len(images), -1)

    def backward(self) -> None:
        """Wait for the time of the backward pass of the same recorded step."""
        wait(self._backward_s)


def wait(seconds: float) -> None:
    """Wait precisely: poll the clock at the end, because a sleep ends late by as much as the time of a small step."""
    deadline = time.perf_counter() + seconds
    if seconds > 2e-3:
        time.sleep(seconds - 1e-3)
    while time.perf_counter() < deadline:
        time.sleep(0)


def load(how: str, classes: int, world: World, seed: int) -> Replay:
    """Make the replacement of the network for `replay:FILE`.

    Args:
        how: ps.compute. The file is a worker's record (RUN/ps/worker-0.jsonl), or any .jsonl file whose rows have
            `forward_s` and `backward_s`.
    Raises:
        UserError: if the file has no such rows.
    """
    kind, _, name = how.partition(":")
    if kind != "replay" or not name:
        raise UserError(f'ps.compute must be real or replay:FILE, not "{how}"')
    try:
        rows = [json.loads(line) for line in read_text(Path(name)).splitlines()]
        times = np.array([(row["forward_s"], row["backward_s"]) for row in rows], dtype=float)
    except UserError as error:
        raise UserError(f"ps.compute: {error}") from None
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        raise UserError(f"ps.compute: {name} is not a worker's record: rows need forward_s and backward_s") from None
    if not len(times) or not (np.isfinite(times) & (times >= 0)).all():
        raise UserError(f"ps.compute: {name} has no times that can be replayed")
    # Skip the warm-up steps of the run.
    return Replay(times[min(3, len(times) - 1) :], classes, seed * 100_003 + world.rank)
