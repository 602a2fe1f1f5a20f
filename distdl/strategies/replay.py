"""`--ps.compute replay:FILE`: wait for a recorded run's compute times in place of computing; every byte still moves."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distdl.core.errors import UserError
from distdl.runtime.world import World


class Replay(nn.Module):
    """Stands in for a network: forward and backward take as long as those of a recorded step, drawn at random.

    The draws are by rank from one seed, so that workers differ as the recorded steps did, and a run can be made again.
    """

    def __init__(self, seconds: np.ndarray, classes: int, seed: int) -> None:
        super().__init__()
        self.seconds, self._dice = seconds, np.random.default_rng(seed)
        self.output = nn.Parameter(torch.zeros(1, classes))
        self._backward_s = 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [b, classes] of nothing, after the time of a forward pass."""
        forward_s, self._backward_s = self.seconds[self._dice.integers(len(self.seconds))]
        hold(forward_s)
        return self.output.expand(len(images), -1)

    def backward(self) -> None:
        """The time of the backward pass that goes with the last forward."""
        hold(self._backward_s)


def hold(seconds: float) -> None:
    """Wait; the end is met by looking, for a sleep ends late by as much as a small step takes."""
    until = time.perf_counter() + seconds
    if seconds > 2e-3:
        time.sleep(seconds - 1e-3)
    while time.perf_counter() < until:
        time.sleep(0)


def load(how: str, classes: int, world: World, seed: int) -> Replay:
    """The stand-in that `replay:FILE` asks for.

    Args:
        how: ps.compute. The file is a worker's record (RUN/ps/worker-0.jsonl), or any .jsonl whose rows have
            `forward_s` and `backward_s`.
    Raises:
        UserError: if the file is not such a record.
    """
    kind, _, name = how.partition(":")
    if kind != "replay" or not name:
        raise UserError(f'ps.compute is real or replay:FILE, not "{how}"')
    try:
        rows = [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
        times = np.array([(row["forward_s"], row["backward_s"]) for row in rows], dtype=float)
    except OSError as error:
        raise UserError(f"ps.compute: {name}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"ps.compute: {name} is not a worker's record: rows need forward_s and backward_s") from None
    if not len(times) or not (np.isfinite(times) & (times >= 0)).all():
        raise UserError(f"ps.compute: {name} holds no times that could be replayed")
    # The first steps of a run warm up: they are nobody's ordinary step.
    return Replay(times[min(3, len(times) - 1) :], classes, seed * 100_003 + world.rank)
