"""Order of the samples: pure functions that every loader follows, so that any of them can resume another one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distdl.core.counter_rng import generator


@dataclass(frozen=True)
class Step:
    """One rank's part of one step."""

    indices: np.ndarray
    """[b] int64 positions in the split; where the rank has none left, one that counts for nothing."""
    count: int
    """Number of them that count."""
    total: int
    """Number that count over all ranks."""
    position: int
    """Samples of the epoch that all ranks together have seen before this step."""


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The epoch's permutation of n samples, [n] int64: the same on every rank, host and loader.

    No epoch's order depends on another's.
    """
    return generator(seed, epoch).permutation(n)


TOGETHER = 32
"""Blocks of large files whose samples are shuffled with each other: at 8 MiB each, a window of 256 MiB."""


def groups(seed: int, epoch: int, blocks: int, together: int = TOGETHER) -> list[np.ndarray]:
    """The epoch's order of blocks, in groups of `together`: what is read before the samples of a group are due."""
    sequence = order(seed, epoch, blocks)
    return [sequence[first : first + together] for first in range(0, blocks, together)]


def order_in_blocks(seed: int, epoch: int, bounds: np.ndarray, together: int = TOGETHER) -> np.ndarray:
    """The epoch's permutation, [n] int64, of samples within large files: each block is read once, in one go.

    Blocks come in random order; the samples of `together` blocks are shuffled with each other. Two samples of a batch
    share a block in about one case of `together`, where a full shuffle has one case of all blocks. A set of no
    more than `together` blocks is shuffled in full. Packing mixes the classes in advance (distdl.data.storage.pack).

    Args:
        bounds: [blocks + 1] where blocks begin, and the end.
    """
    random, limits = generator(seed, epoch, jumps=1), bounds.tolist()
    mixed = [
        random.permutation(np.concatenate([np.arange(*limits[block : block + 2]) for block in group.tolist()]))
        for group in groups(seed, epoch, len(bounds) - 1, together)
    ]
    return np.concatenate(mixed)


SHORTEST = 4
"""An epoch's last step has at least 1 / SHORTEST of the global batch; a smaller one would weigh a few samples as much
as a whole batch."""


def steps(n: int, global_batch: int, start: int = 0, drop_last: bool = False) -> int:
    """Steps that take all ranks through the samples after `start`."""
    remaining = max(n - start, 0)
    return remaining // global_batch if drop_last else -(-remaining // global_batch)


def sizes(n: int, global_batch: int, pieces: int, drop_last: bool = False) -> np.ndarray:
    """Samples of each step through n samples, [steps] int64, none above `global_batch`; they sum to n.

    Steps are full, except that a last step that would be too short shares its samples evenly with as few steps before
    it as it needs. Too short means less than a quarter of the global batch, or less than two samples per piece: a
    piece of one sample has no variance for BatchNorm to divide by. Where no division gives two samples per piece, one
    is aimed at, and then the quarter alone; `smallest_piece` returns the result.

    The rule looks only at what remains. A run that stops after any step and resumes takes the remaining steps as if it
    had not stopped; with another global batch or number of ranks it divides the remaining samples in its own way, and
    sees each once. With 8 or more samples per piece the quarter decides, and the steps do not depend on the number of
    ranks at all.

    Args:
        pieces: parts into which each step is cut, over all ranks: ranks x micro batches. 0 keeps a short last step as
            it is: in evaluation, where each sample counts on its own.
    """
    full, rest = divmod(max(n, 0), global_batch)
    result = np.full(full if drop_last or not rest else full + 1, global_batch)
    if len(result) == full:
        return result
    if not pieces:
        result[-1] = rest
        return result
    quarter = -(-global_batch // SHORTEST)
    for least in (max(quarter, 2 * pieces), max(quarter, pieces), quarter):
        least = min(least, global_batch)
        if rest < least == global_batch:
            continue
        # k steps share (k - 1) * global_batch + rest samples: each gets `least` from k * (global_batch - least) on.
        k = 1 if rest >= least else -(-(global_batch - rest) // (global_batch - least))
        if k <= len(result):
            per, extra = divmod((k - 1) * global_batch + rest, k)
            result[-k:] = per + (np.arange(k) < extra)
            return result
    result[-1] = rest
    return result


def smallest_piece(n: int, global_batch: int, pieces: int, drop_last: bool = False) -> int:
    """Samples of the smallest piece of an epoch; 0 where a rank has none in some step."""
    return int(sizes(n, global_batch, pieces, drop_last).min(initial=global_batch)) // pieces


def share(
    sequence: np.ndarray,
    rank: int,
    world: int,
    global_batch: int,
    start: int = 0,
    drop_last: bool = False,
    *,
    pieces: int | None = None,
) -> Iterator[Step]:
    """One rank's steps through `sequence` after its first `start` samples.

    Each step takes the next samples of the sequence, as many as `sizes` gives, in contiguous parts by rank whose sizes
    differ by one at most. Every sample is therefore seen exactly once at any number of ranks, also when that changes
    during the epoch, and every rank takes `steps(...)` steps.

    Args:
        pieces: as in `sizes`; without it, one per rank.
    """
    pieces = world if pieces is None else pieces
    position = start
    for total in sizes(len(sequence) - start, global_batch, pieces, drop_last).tolist():
        members = sequence[position : position + total]
        per, extra = divmod(total, world)
        first = rank * per + min(rank, extra)
        part = members[first : first + per + (rank < extra)]
        yield Step(part if len(part) else members[:1], len(part), total, position)
        position += total
