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
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch])).permutation(n)


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
