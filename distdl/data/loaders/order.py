"""Order of the samples, as pure functions that all loaders use, so that one loader can resume the run of another."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distdl.core.counter_rng import generator


@dataclass(frozen=True)
class Step:
    """One rank's part of one step."""

    indices: np.ndarray
    """[b] int64 indices in the split; a single padding index if there is no sample for this rank."""
    count: int
    """Number of indices that count: b, or 0 for a padding sample."""
    total: int
    """Number of samples that count over all ranks."""
    position: int
    """Number of the epoch's samples, over all ranks, before this step."""


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the epoch's permutation of n samples, [n] int64: the same on every rank and host and for every loader.

    It does not depend on other epochs.
    """
    return generator(seed, epoch).permutation(n)


BLOCKS_PER_GROUP = 32
"""Number of blocks of large files whose samples are shuffled together: with blocks of 8 MiB, a window of 256 MiB."""


def groups(seed: int, epoch: int, blocks: int, group_size: int = BLOCKS_PER_GROUP) -> list[np.ndarray]:
    """Return the epoch's random order of blocks, in groups of `group_size`. A group is read before its samples are due.

    Args:
        blocks: number of blocks.
    """
    sequence = order(seed, epoch, blocks)
    return [sequence[first : first + group_size] for first in range(0, blocks, group_size)]


def order_in_blocks(seed: int, epoch: int, bounds: np.ndarray, group_size: int = BLOCKS_PER_GROUP) -> np.ndarray:
    """Return the epoch's permutation, [n] int64, of samples within large files, such that each block is read once.

    The order of blocks is random, and the samples of `group_size` consecutive blocks are shuffled together. The
    probability that two samples of a batch share a block is about 1 / `group_size`; with a full shuffle it would be
    1 / blocks. A set with at most `group_size` blocks is shuffled fully. Packing mixes the classes in advance
    (distdl.data.storage.pack).

    Args:
        bounds: [blocks + 1] index of each block's first sample, and the number of samples.
    """
    random, limits = generator(seed, epoch, jumps=1), bounds.tolist()
    mixed = [
        random.permutation(np.concatenate([np.arange(*limits[block : block + 2]) for block in group.tolist()]))
        for group in groups(seed, epoch, len(bounds) - 1, group_size)
    ]
    return np.concatenate(mixed)


LAST_STEP_DIVISOR = 4
"""The last step of an epoch has at least 1 / LAST_STEP_DIVISOR of the global batch: with fewer samples, each of them
would get a much larger weight than in a full batch."""


def steps(n: int, global_batch: int, start: int = 0, drop_last: bool = False) -> int:
    """Return the number of steps for the samples after the first `start`."""
    remaining = max(n - start, 0)
    return remaining // global_batch if drop_last else -(-remaining // global_batch)


def sizes(n: int, global_batch: int, pieces: int, drop_last: bool = False) -> np.ndarray:
    """Divide n samples into steps: [steps] int64 samples per step, at most `global_batch` each, n in total.

    All steps are full, except that a last step that would be too short is merged with the steps before it, as few as
    necessary, and their samples are divided evenly. Too short means less than a quarter of the global batch, or less
    than two samples per micro-batch, because BatchNorm cannot compute the variance of one sample. If no division gives
    two samples per micro-batch, the aim is one, and then only the quarter; `smallest_piece` returns the result.

    The rule uses only the remaining samples. A run that stops after any step and resumes therefore continues with the
    same steps; with another global batch or number of ranks it divides the remaining samples by its own settings, and
    still processes each once. With 8 or more samples per micro-batch the quarter is the larger bound, and the steps do
    not depend on the number of ranks.

    Args:
        pieces: number of micro-batches per step over all ranks: ranks x micro-batches per rank. With 0, in evaluation,
            a short last step is not merged, since each sample counts separately.
        drop_last: omit a last step that is not full.
    """
    full, rest = divmod(max(n, 0), global_batch)
    result = np.full(full if drop_last or not rest else full + 1, global_batch)
    if len(result) == full:
        return result
    if not pieces:
        result[-1] = rest
        return result
    quarter = -(-global_batch // LAST_STEP_DIVISOR)
    for minimum in (max(quarter, 2 * pieces), max(quarter, pieces), quarter):
        minimum = min(minimum, global_batch)
        if rest < minimum == global_batch:
            continue
        # k steps share (k - 1) * global_batch + rest samples, at least k * minimum: solved for the smallest k.
        k = -(-(global_batch - rest) // (global_batch - minimum))
        if k <= len(result):
            per, extra = divmod((k - 1) * global_batch + rest, k)
            result[-k:] = per + (np.arange(k) < extra)
            return result
    result[-1] = rest
    return result


def smallest_piece(n: int, global_batch: int, pieces: int, drop_last: bool = False) -> int:
    """Return the samples in an epoch's smallest micro-batch; 0 if a rank has none in some step."""
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
    """Yield one rank's steps through `sequence` [n] after its first `start` samples.

    Each step takes the next samples of the sequence, as many as `sizes` returns, and gives each rank a contiguous part;
    the parts differ by at most one sample. Therefore every sample is processed exactly once for any number of ranks,
    even if that number changes during the epoch, and every rank runs `steps(...)` steps.

    Args:
        pieces: as in `sizes`; by default one per rank.
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
