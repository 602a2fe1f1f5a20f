"""The strategy of a single process: there is nothing to exchange."""

from typing import Literal

import torch

from distdl.runtime.device import device_for, pin_cores
from distdl.runtime.world import World
from distdl.strategies.base import Strategy


class Single(Strategy):
    """One process with one device."""

    name = "single"

    def setup(self) -> World:
        device = device_for(self.config.compute, local_rank=0, local_size=1, warn=self.warnings.append)
        pin_cores(self.config.compute, device, local_rank=0, local_size=1)
        self.world = World(device=device)
        return self.world

    def all_reduce(self, tensor: torch.Tensor, op: Literal["sum", "max", "min"] = "sum") -> torch.Tensor:
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        return tensor

    def barrier(self) -> None:
        """Return at once."""
