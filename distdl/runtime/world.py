"""Rank, world size and device of a process, for modules that do not communicate."""

from dataclasses import dataclass, field
from typing import Literal

import torch


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank and device of one process. Ranks are numbered among those that train; parameter servers separately."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Rank among those of this host."""
    local_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    role: Literal["train", "serve"] = "train"
    """A rank with the role "serve" keeps parameters for the others; see `Strategy.serve`."""
