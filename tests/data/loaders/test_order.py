"""Division of an epoch's samples into steps and ranks: properties over all sizes, ranks and positions."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from distdl.data.loaders import order

samples = some.integers(1, 700)
batches = some.integers(1, 150)
ranks = some.integers(1, 9)


def by_step(sequence: np.ndarray, world: int, global_batch: int, start: int = 0, **options: object) -> list[list[int]]:
    """The samples of each step over all ranks, in the order of ranks; those that count for nothing left out."""
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
def test_steps_take_every_sample_once_and_none_is_above_the_batch(n: int, batch: int, world: int, cuts: int) -> None:
    sequence = order.order(5, 1, n)
    steps = by_step(sequence, world, batch, pieces=world * cuts)
    assert [i for step in steps for i in step] == sequence.tolist()
    assert len(steps) == order.steps(n, batch)
    assert max(map(len, steps)) <= batch


@given(samples, batches, ranks, some.data())
def test_a_run_resumed_after_any_step_takes_the_remaining_steps(
    n: int, batch: int, world: int, data: some.data
) -> None:
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
def test_a_piece_has_two_samples_where_any_division_allows_it(n: int, batch: int, pieces: int) -> None:
    steps, least = order.steps(n, batch), 2 * pieces
    possible = any(
        least <= ((k - 1) * batch + (n % batch or batch)) // k for k in range(1, steps + 1) if least <= batch
    )
    assert (order.smallest_piece(n, batch, pieces) >= 2) == possible


@given(some.integers(1, 30), some.integers(8, 40), some.integers(1, 9))
def test_with_eight_samples_per_rank_the_steps_are_those_of_one_rank(full: int, per_rank: int, world: int) -> None:
    batch = per_rank * world
    for rest in range(batch):
        n = full * batch + rest
        assert order.sizes(n, batch, world).tolist() == order.sizes(n, batch, 1).tolist()


@given(samples, batches, ranks)
def test_drop_last_takes_full_steps_only(n: int, batch: int, world: int) -> None:
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
        (1437, 64, 2, [64] * 22 + [29]),  # a last step of more than a quarter stays as it is
        (41, 20, 1, [20, 11, 10]),
        (41, 20, 2, [20, 11, 10]),
        (45, 20, 1, [20, 20, 5]),
        (44, 20, 1, [20, 12, 12]),
        (19, 6, 2, [6, 5, 4, 4]),  # two steps of 7 would give a rank 1 sample
        (5, 2, 1, [2, 2, 1]),  # no division gives a rank two samples in each step
    ],
)
def test_a_last_step_that_is_too_short_shares_with_those_before(
    n: int, batch: int, pieces: int, expected: list[int]
) -> None:
    assert order.sizes(n, batch, pieces).tolist() == expected


def test_evaluation_keeps_a_short_last_step() -> None:
    assert order.sizes(41, 20, pieces=0).tolist() == [20, 20, 1]
