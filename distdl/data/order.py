"""Which sample when: pure functions that every loader follows, so that any of them can go on where another stopped."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """One rank's part of one step."""

    indices: np.ndarray
    """[b] int64 positions in the split; where the rank has none left, one that counts for nothing."""
    count: int
    """How many of them count."""
    total: int
    """How many count over all ranks."""
    position: int
    """Samples of the epoch that all ranks together have seen before this step."""


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The epoch's permutation of n samples, [n] int64: the same on every rank, host and loader.

    Philox is counter-based: (seed, epoch) is its key, so that no epoch's order depends on another's.
    """
    return np.random.Generator(_philox(seed, epoch)).permutation(n)


def _philox(seed: int, epoch: int) -> np.random.Philox:
    # A list would go by way of floats where the seed is negative or above 2**63, and seeds would fall together.
    return np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64))


TOGETHER = 32
"""Blocks of large files whose samples are shuffled with each other: at 8 MiB each, a window of 256 MiB."""


def groups(seed: int, epoch: int, blocks: int, together: int = TOGETHER) -> list[np.ndarray]:
    """The epoch's order of blocks, in groups of `together`: what is read before the samples of a group are due."""
    sequence = order(seed, epoch, blocks)
    return [sequence[first : first + together] for first in range(0, blocks, together)]


def order_in_blocks(seed: int, epoch: int, bounds: np.ndarray, together: int = TOGETHER) -> np.ndarray:
    """The epoch's permutation, [n] int64, of samples that lie in large files: each block is read once, in one go.

    Blocks come in random order; the samples of `together` blocks are shuffled with each other. Two samples of a batch
    lie in the same block in about one case of `together`, where a full shuffle has one case of all blocks. A set of no
    more than `together` blocks is shuffled in full. Packing mixes the classes beforehand (distdl.data.pack).

    Args:
        bounds: [blocks + 1] where blocks begin, and the end.
    """
    random = np.random.Generator(_philox(seed, epoch).jumped())
    mixed = [
        random.permutation(np.concatenate([np.arange(bounds[block], bounds[block + 1]) for block in group]))
        for group in groups(seed, epoch, len(bounds) - 1, together)
    ]
    return np.concatenate(mixed)


def steps(n: int, global_batch: int, start: int = 0, drop_last: bool = False) -> int:
    """Steps that take all ranks through the samples after `start`."""
    left = max(n - start, 0)
    return left // global_batch if drop_last else -(-left // global_batch)


def share(
    sequence: np.ndarray, rank: int, world: int, batch: int, start: int = 0, drop_last: bool = False
) -> Iterator[Step]:
    """One rank's steps through `sequence` after its first `start` samples.

    Each step takes the next `batch * world` samples, in contiguous parts by rank; the epoch's last takes what is left,
    divided as evenly as can be. So every sample is seen exactly once at any world size, also when it changes on the
    way, and every rank takes `steps(...)` steps.
    """
    n, global_batch = len(sequence), batch * world
    for step in range(steps(n, global_batch, start, drop_last)):
        position = start + step * global_batch
        members = sequence[position : position + global_batch]
        per, extra = divmod(len(members), world)
        first = rank * per + min(rank, extra)
        mine = members[first : first + per + (rank < extra)]
        yield Step(mine if len(mine) else members[:1], len(mine), len(members), position)
