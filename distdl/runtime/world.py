"""Rank, world size and device of a process: all that data, models and telemetry know about the other processes."""

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
    """A rank that serves holds parameters for those that train; see `Strategy.serve`."""
