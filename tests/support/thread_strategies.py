"""Strategies for ranks that are threads (`rank_threads`): the process group already exists."""

from typing import Any

import torch

from distdl.core.config import Config
from distdl.runtime.world import World
from distdl.strategies.ddp import DDP
from distdl.strategies.paramserver.collectives import ServerCollectives
from distdl.strategies.paramserver.protocol import Peer
from distdl.strategies.paramserver.worker import Worker


def ddp_of(rank: int, size: int, config: Config | None = None, **places: Any) -> DDP:
    """DDP of a rank; `places` sets other fields of its world."""
    strategy = DDP(config or Config())
    strategy.world = World(rank=rank, size=size, **{"local_rank": rank, "local_size": size, **places})
    strategy._transport = "gloo"
    return strategy


def worker_of(rank: int, workers: int, config: Config) -> Worker:
    """A worker or, from rank `workers` on, a server of a parameter-server training."""
    strategy, servers = Worker(config), config.ps.servers
    strategy.wire = torch.bfloat16 if config.ps.wire == "bf16" else torch.float32
    if rank >= workers:
        strategy.world = World(rank=rank - workers, size=workers, role="serve")
        strategy.peers = [Peer(worker, f"worker {worker}", 30.0) for worker in range(workers)]
        return strategy
    strategy.world = World(rank=rank, size=workers, local_rank=rank, local_size=workers)
    strategy.peers = [Peer(workers + server, f"server {server}", 30.0) for server in range(servers)]
    strategy._collectives = ServerCollectives(strategy.peers[0], rank)
    return strategy
