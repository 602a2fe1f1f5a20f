"""Functions for ranks that share memory, in a separate module that processes of the fork server can import."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distdl.core.config import Config
from distdl.strategies import shared_memory as shared
from distdl.strategies.ddp import DDP

SIZES = ((100_001, torch.float32), (2, torch.float64), (64, torch.bfloat16), (1, torch.float32))
"""Sizes and types of tensors: fewer values than ranks, and sizes that the number of ranks does not divide."""


ROUNDS = 50
"""Number of consecutive averages, with no other synchronization between the ranks."""


def _values(number: int, rank: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * number + rank)
    return [torch.rand(size, generator=generator).to(kind) for size, kind in SIZES]


def averages(strategy: DDP, out: Any) -> None:
    """Compare the means of every round bit by bit."""
    shared.FOLDER /= f"test-{os.getppid()}"  # not shared with other tests
    shared.FOLDER.mkdir(exist_ok=True)
    memory = shared.join(strategy, shared.bytes_for([torch.empty(size, dtype=kind) for size, kind in SIZES]))
    assert memory is not None
    ranks = strategy.world.size
    for number in range(ROUNDS):
        by_rank = [_values(number, rank) for rank in range(ranks)]
        local = [tensor.clone() for tensor in by_rank[strategy.world.rank]]
        memory.average(local)
        for mean, given in zip(local, zip(*by_rank, strict=True), strict=True):
            assert torch.equal(mean, sum((part / ranks for part in given[1:]), start=given[0] / ranks)), number
    strategy.barrier()
    out.put(sorted(path.name for path in shared.FOLDER.iterdir()))
    strategy.barrier()
    if strategy.world.rank == 0:
        shared.FOLDER.rmdir()


def modes(strategy: DDP, out: Any) -> None:
    """Report the permissions of the file while it has a name, on rank 0."""
    allocate, seen = os.posix_fallocate, []

    def observed(descriptor: int, offset: int, size: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        allocate(descriptor, offset, size)

    os.posix_fallocate = observed
    os.umask(0)
    assert shared.join(strategy, 640) is not None
    out.put(seen)


def one_cannot(strategy: DDP, out: Any) -> None:
    """Average although the last rank cannot access the memory of the others, as in a separate container."""
    if strategy.world.rank == strategy.world.size - 1:
        shared.FOLDER = Path("/nowhere")
    out.put(shared.join(strategy, 640) is None)


def too_much(strategy: DDP, out: Any) -> None:
    """Allocate more shared memory than is available."""
    out.put(shared.join(strategy, 2**50) is None)


def run_rank(work: Callable[..., None], place: dict[str, str], out: Any) -> None:
    os.environ.update(place)
    strategy = DDP(Config())
    strategy.setup()
    work(strategy, out)
    strategy.barrier()
