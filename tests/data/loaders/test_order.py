"""Properties of the division of an epoch's samples into steps and ranks, for any size, world and start."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from distdl.data.loaders import order

samples = some.integers(1, 700)
batches = some.integers(1, 150)
ranks = some.integers(1, 9)


def by_step(sequence: np.ndarray, world: int, global_batch: int, start: int = 0, **options: object) -> list[list[int]]:
    """Samples of each step over all ranks, in the order of ranks, without padding samples."""
    shares = [list(order.share(sequence, rank, world, global_batch, start, **options)) for rank in range(world)]
    assert len({len(steps) for steps in shares}) == 1
    for steps in zip(*shares, strict=True):
        counts = [step.count for step in steps]
        assert max(counts) - min(counts) <= 1
        assert {step.total for step in steps} == {sum(counts)}
        assert len({step.position for step in steps}) == 1
        assert all(len(step.indices) == max(step.count, 1) for step in steps)
    return [[i for step in steps for i in step.indices[: step.count].tolist()] for steps in zip(*shares, strict=True)]


@given(samples, batches, ranks, some.integers(1, 4))
@example(41, 20, 1, 1)
@example(41, 20, 2, 1)
@example(27, 18, 7, 1)
def test_steps_have_every_sample_once_and_never_exceed_the_batch(n: int, batch: int, world: int, cuts: int) -> None:
    sequence = order.order(5, 1, n)
    steps = by_step(sequence, world, batch, pieces=world * cuts)
    assert [i for step in steps for i in step] == sequence.tolist()
    assert len(steps) == order.steps(n, batch)
    assert max(map(len, steps)) <= batch


@given(samples, batches, ranks, some.data())
def test_a_run_resumed_after_any_step_gets_the_remaining_steps(n: int, batch: int, world: int, data: some.data) -> None:
    complete = order.sizes(n, batch, world).tolist()
    done = data.draw(some.integers(0, len(complete)))
    assert order.sizes(n - sum(complete[:done]), batch, world).tolist() == complete[done:]


@given(samples, batches, ranks, batches, ranks, some.data())
def test_every_sample_is_seen_once_when_batch_and_ranks_change_in_the_epoch(
    n: int, batch: int, world: int, other_batch: int, other_world: int, data: some.data
) -> None:
    sequence = order.order(0, 0, n)
    begun = by_step(sequence, world, batch)
    begun = begun[: data.draw(some.integers(0, len(begun)))]
    resumed = by_step(sequence, other_world, other_batch, start=sum(map(len, begun)))
    assert [i for step in begun + resumed for i in step] == sequence.tolist()


@given(samples, some.integers(2, 150), ranks)
def test_each_piece_has_two_samples_where_possible(n: int, batch: int, pieces: int) -> None:
    steps, least = order.steps(n, batch), 2 * pieces
    possible = any(
        least <= ((k - 1) * batch + (n % batch or batch)) // k for k in range(1, steps + 1) if least <= batch
    )
    assert (order.smallest_piece(n, batch, pieces) >= 2) == possible


@given(some.integers(1, 30), some.integers(8, 40), some.integers(1, 9))
def test_with_eight_samples_per_rank_the_steps_match_those_of_one_rank(full: int, per_rank: int, world: int) -> None:
    batch = per_rank * world
    for rest in range(batch):
        n = full * batch + rest
        assert order.sizes(n, batch, world).tolist() == order.sizes(n, batch, 1).tolist()


@given(samples, batches, ranks)
def test_drop_last_gives_full_steps_only(n: int, batch: int, world: int) -> None:
    assert order.sizes(n, batch, world, drop_last=True).tolist() == [batch] * (n // batch)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_a_global_batch_of_18_has_the_same_samples_in_each_step_on_any_number_of_ranks(world: int) -> None:
    sequence = order.order(1, 4, 124)  # 124 = 6 x 18 + 16
    alone, shared = by_step(sequence, 1, 18), by_step(sequence, world, 18)
    assert shared == alone


def test_a_global_batch_is_divided_with_its_remainder() -> None:
    parts = [next(order.share(np.arange(40), rank, 7, 18)).count for rank in range(7)]
    assert parts == [3, 3, 3, 3, 2, 2, 2]


@pytest.mark.parametrize(
    ("n", "batch", "pieces", "expected"),
    [
        (1437, 64, 2, [64] * 22 + [29]),  # a last step of more than a quarter is unchanged
        (41, 20, 1, [20, 11, 10]),
        (41, 20, 2, [20, 11, 10]),
        (45, 20, 1, [20, 20, 5]),
        (44, 20, 1, [20, 12, 12]),
        (19, 6, 2, [6, 5, 4, 4]),  # two steps of 7 would give a rank 1 sample
        (5, 2, 1, [2, 2, 1]),  # no division gives a rank two samples in each step
    ],
)
def test_a_last_step_that_is_too_short_takes_samples_from_previous_steps(
    n: int, batch: int, pieces: int, expected: list[int]
) -> None:
    assert order.sizes(n, batch, pieces).tolist() == expected


def test_evaluation_keeps_a_short_last_step() -> None:
    assert order.sizes(41, 20, pieces=0).tolist() == [20, 20, 1]


def test_the_block_order_of_a_seed_never_changes() -> None:
    """Otherwise a training would continue with other samples after a resume in a newer version."""
    bounds = np.array([0, 3, 6, 9, 12])
    assert order.order_in_blocks(3, 2, bounds, 2).tolist() == [3, 11, 9, 10, 4, 5, 7, 1, 0, 8, 2, 6]


def test_the_block_order_reads_each_block_once_and_mixes_the_open_blocks() -> None:
    bounds = np.concatenate([[0], np.cumsum(np.random.default_rng(0).integers(50, 90, 200))])
    n, together = int(bounds[-1]), 16
    seen = set()
    for epoch in range(3):
        sequence = order.order_in_blocks(5, epoch, bounds, together)
        assert (np.sort(sequence) == np.arange(n)).all()
        seen.add(sequence.tobytes())
        block = np.searchsorted(bounds, sequence, "right") - 1
        first, last = np.zeros(200, int), np.zeros(200, int)
        for number in range(200):
            places = np.flatnonzero(block == number)
            first[number], last[number] = places[0], places[-1]
        # No position has more open blocks than are held in memory.
        open_blocks = [((first <= place) & (last >= place)).sum() for place in range(0, n, 37)]
        assert max(open_blocks) <= together
        # Stated: two samples of a batch share a block in one case of `together`; 5 sigma of 200 batches' pairs is 10 %.
        batches = block[: n // 64 * 64].reshape(-1, 64)
        same = np.mean([(row[:, None] == row[None, :]).sum() - 64 for row in batches]) / (64 * 63)
        assert 0.85 / together < same < 1.15 / together
    assert len(seen) == 3


def test_a_small_packed_set_is_shuffled_in_full() -> None:
    bounds = np.array([0, 40, 80, 120])
    places = np.array([np.argsort(order.order_in_blocks(1, epoch, bounds)) for epoch in range(2000)])
    # Each sample's mean place over epochs is the middle; its standard error is 120 / sqrt(12 * 2000) = 0.8; 6 of them.
    assert np.abs(places.mean(0) - 59.5).max() < 4.7
    # Neighbors in the file end up as far apart as any two: a third of the set, with a standard error of 0.6.
    assert np.abs(np.abs(np.diff(places, axis=1)).mean() - 121 / 3) < 1


def test_orders_of_any_two_seeds_differ() -> None:
    assert len({order.order(seed, 1, 50).tobytes() for seed in (-1, -2, 0, 2**63, 2**63 + 1)}) == 5
