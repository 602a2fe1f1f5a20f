"""Where a process stands among the others. Data, models and telemetry know no more of the others than this."""

from dataclasses import dataclass, field
from typing import Literal

import torch


@dataclass(frozen=True, kw_only=True)
class World:
    """One process's place. Ranks are numbered among those that train; a parameter server has a role of its own."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the ranks of this host."""
    local_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    role: Literal["train", "serve"] = "train"
    """A rank that serves keeps parameters for those that train; see `Strategy.serve`."""
