"""Strategy for a single process, without communication."""

import torch

from distdl.runtime.device import make_world, pin_cores
from distdl.runtime.launch_env import Placement
from distdl.runtime.world import World
from distdl.strategies.base import Strategy
from distdl.strategies.text import ReduceOp


class Single(Strategy):
    """One process with one device."""

    name = "single"

    def setup(self) -> World:
        self.world = make_world(self.config.compute, Placement(), self.warnings.append)
        pin_cores(self.config.compute, self.world)
        return self.world

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        return tensor

    def barrier(self) -> None:
        """Return immediately."""
