"""Averaging over the ranks of one host without GPUs, through shared memory.

gloo sends every byte over the kernel's loopback interface, which uses cores that would otherwise compute.
"""

import contextlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from distdl.core.opening import open_new
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text

FOLDER = Path("/dev/shm")
"""Folder whose files are in memory on Linux."""
LINE = 64
"""Bytes of a cache line; tensors do not share one."""


class SharedMemory:
    """One row of memory per rank, mapped by all ranks. Each element is summed by one rank, the owner of its part.

        part       0    1    2
        rank 0   [sum]  a    a       A rank writes the parts of the others into its row, then the sum of its own
        rank 1     b  [sum]  b       part, and reads the other sums from the rows of their owners. Two barriers separate
        rank 2     c    c  [sum]     these phases. A third is not needed: the next round first writes only regions that
                                     every rank has finished reading.

    Every owner sums in the order of the ranks: the result is equal on all ranks and in every run.
    """

    def __init__(self, file: Path, row_bytes: int, rank: int, ranks: int) -> None:
        memory = torch.from_file(str(file), shared=True, size=ranks * row_bytes, dtype=torch.uint8)
        self._rows = memory.view(ranks, row_bytes)
        self._rank, self._ranks, self._token = rank, ranks, torch.zeros(1)

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the ranks. All ranks pass tensors of the same sizes."""
        shared = self._views(tensors)
        for tensor, rows in zip(tensors, shared, strict=True):
            for owner, (part, slot) in enumerate(zip(self._parts(tensor), self._parts(rows[self._rank]), strict=True)):
                # Other ranks may still read the previous sum of this rank's part: keep it until the first barrier.
                torch.div(part, self._ranks, out=part if owner == self._rank else slot)
        self._barrier()
        for tensor, rows in zip(tensors, shared, strict=True):
            addends = [self._parts(row)[self._rank] for row in rows]
            result = addends[self._rank]
            addends[self._rank] = self._parts(tensor)[self._rank]
            torch.add(addends[0], addends[1], out=result)
            for addend in addends[2:]:
                result += addend
        self._barrier()
        for tensor, rows in zip(tensors, shared, strict=True):
            for rank, part in enumerate(self._parts(tensor)):
                part.copy_(self._parts(rows[rank])[rank])

    def _views(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the rows [ranks, n] of each tensor [n]."""
        begin, views = 0, []
        for tensor in tensors:
            size = tensor.numel() * tensor.element_size()
            views.append(self._rows[:, begin : begin + size].view(tensor.dtype))
            begin += _whole_lines(size)
        return views

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return values.tensor_split(self._ranks)

    def _barrier(self) -> None:
        # gloo detects a dead rank, and orders earlier writes before later reads.
        dist.all_reduce(self._token)


def bytes_for(tensors: Sequence[torch.Tensor]) -> int:
    """Size in bytes of a row for these tensors, each aligned to a cache line."""
    return sum(_whole_lines(tensor.numel() * tensor.element_size()) for tensor in tensors)


def _whole_lines(size: int) -> int:
    return -(-size // LINE) * LINE


def join(strategy: Strategy, row_bytes: int) -> SharedMemory | None:
    """Map memory that all ranks share. Called on every rank; returns None on all ranks if one fails.

    The file is unlinked as soon as all ranks have mapped it, so that a killed process leaves no file behind.
    """
    rank, ranks = strategy.world.rank, strategy.world.size
    file = FOLDER / broadcast_text(strategy, f"distdl-{uuid.uuid4().hex}" if rank == 0 else "")
    memory = None
    if rank == 0:
        with contextlib.suppress(OSError), open_new(file, 0o600) as sink:
            os.posix_fallocate(sink.fileno(), 0, ranks * row_bytes)  # otherwise a full /dev/shm raises SIGBUS later
            memory = SharedMemory(file, row_bytes, rank, ranks)
    strategy.barrier()
    if rank:
        with contextlib.suppress(OSError, RuntimeError):
            memory = SharedMemory(file, row_bytes, rank, ranks) if file.stat().st_size == ranks * row_bytes else None
    all_have = int(strategy.all_reduce(torch.tensor([int(memory is not None)]), "min"))
    if rank == 0:
        file.unlink(missing_ok=True)
    return memory if all_have else None
