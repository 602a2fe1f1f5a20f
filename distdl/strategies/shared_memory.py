"""Averages among ranks that compute on the processors of one host, through memory that they share.

gloo sends every byte through the kernel's loopback, and the processor that copies it there is the one that computes.
"""

import contextlib
import os
import uuid
from pathlib import Path

import torch
import torch.distributed as dist

from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text

FOLDER = Path("/dev/shm")
"""Where files are memory, on Linux."""
LINE = 64
"""Bytes; no two tensors share a line of a cache."""


class SharedMemory:
    """A row of memory for each rank, which all of them see. Each value is summed by one rank, the owner of its part.

        part       0    1    2
        rank 0   [sum]  a    a       A rank leaves in its row what the others are to sum, puts the sum of its own part
        rank 1     b  [sum]  b       there, and takes the others' sums from their rows. Two waits keep this apart. A
        rank 2     c    c  [sum]     third is not needed: what the next round writes first nobody reads any more.

    The sum is in the order of ranks, whoever makes it: it is the same on all of them and in every run.
    """

    def __init__(self, file: Path, row_bytes: int, rank: int, ranks: int) -> None:
        memory = torch.from_file(str(file), shared=True, size=ranks * row_bytes, dtype=torch.uint8)
        self._rows = memory.view(ranks, row_bytes)
        self._rank, self._ranks, self._token = rank, ranks, torch.zeros(1)

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the ranks. The others give tensors of the same sizes."""
        shared = self._views(tensors)
        own = self._rank
        for mine, rows in zip(tensors, shared, strict=True):
            for owner, (part, left) in enumerate(zip(self._parts(mine), self._parts(rows[own]), strict=True)):
                # Others may still be reading the own part's last sum: it stays until they have come here, too.
                torch.div(part, self._ranks, out=part if owner == own else left)
        self._wait()
        for mine, rows in zip(tensors, shared, strict=True):
            given = [self._parts(row)[own] for row in rows]
            result = given[own]
            given[own] = self._parts(mine)[own]
            torch.add(given[0], given[1], out=result)
            for part in given[2:]:
                result += part
        self._wait()
        for mine, rows in zip(tensors, shared, strict=True):
            for rank, part in enumerate(self._parts(mine)):
                part.copy_(self._parts(rows[rank])[rank])

    def _views(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """For each tensor [n] the ranks' rows [ranks, n] of it."""
        begin, found = 0, []
        for tensor in tensors:
            size = tensor.numel() * tensor.element_size()
            found.append(self._rows[:, begin : begin + size].view(tensor.dtype))
            begin += _whole_lines(size)
        return found

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return values.tensor_split(self._ranks)

    def _wait(self) -> None:
        # By way of gloo: it notices a rank that died, and orders what was written before what is read after.
        dist.all_reduce(self._token)


def bytes_for(tensors: list[torch.Tensor]) -> int:
    """Of a row that holds all of these, each in a line of its own or together with others."""
    return sum(_whole_lines(tensor.numel() * tensor.element_size()) for tensor in tensors)


def _whole_lines(size: int) -> int:
    return -(-size // LINE) * LINE


def join(strategy: Strategy, row_bytes: int) -> SharedMemory | None:
    """Share memory with the others; called on every rank. None on all of them where one of them cannot.

    The file loses its name as soon as all have it open: a process that is killed leaves nothing behind.
    """
    rank, ranks = strategy.world.rank, strategy.world.size
    file = FOLDER / broadcast_text(strategy, f"distdl-{uuid.uuid4().hex}" if rank == 0 else "")
    found = None
    if rank == 0:
        with contextlib.suppress(OSError), file.open("xb") as sink:
            os.posix_fallocate(sink.fileno(), 0, ranks * row_bytes)  # or a page that is not to be had is a SIGBUS later
            found = SharedMemory(file, row_bytes, rank, ranks)
    strategy.barrier()
    if rank:
        with contextlib.suppress(OSError, RuntimeError):
            found = SharedMemory(file, row_bytes, rank, ranks) if file.stat().st_size == ranks * row_bytes else None
    all_have = int(strategy.all_reduce(torch.tensor([int(found is not None)]), "min"))
    if rank == 0:
        file.unlink(missing_ok=True)
    return found if all_have else None
