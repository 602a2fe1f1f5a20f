"""Random numbers of samples: uniform, independent, and not dependent on the batch."""

import numpy as np
import pytest
from scipy import stats

from distdl.core.counter_rng import STREAMS, generator, uniform

INDICES = np.arange(20_000)


@pytest.mark.parametrize("stream", STREAMS)
def test_draws_are_uniform(stream: str) -> None:
    # Twelve tests at 1e-4: a good generator fails one of them in a thousand seeds; the seed here is fixed.
    values = uniform(3, 7, INDICES, stream, 2)
    assert values.min() >= 0 and values.max() < 1
    for column in values.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4


def test_draws_do_not_depend_on_the_other_samples() -> None:
    together = uniform(1, 2, INDICES, "crop", 3)
    some = np.array([17, 3, 19_999])
    assert np.array_equal(uniform(1, 2, some, "crop", 3), together[some])
    assert np.array_equal(uniform(1, 2, some, "crop", 1), together[some, :1])


@pytest.mark.parametrize(
    "other",
    [
        (4, 7, 0, "flip"),
        (3, 8, 0, "flip"),
        (3, 7, 1, "flip"),
        (3, 7, 0, "mix"),
        (2**63, 7, 0, "flip"),
        (-1, 7, 0, "flip"),
    ],
)
def test_any_change_of_the_key_gives_independent_numbers(other: tuple[int, int, int, str]) -> None:
    seed, epoch, offset, stream = other
    first = uniform(3, 7, INDICES, "flip")[:, 0]
    second = uniform(seed, epoch, INDICES + offset, stream)[:, 0]
    # Under independence the correlation has a standard deviation of 1 / sqrt(n).
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(len(INDICES))


def test_adjacent_samples_are_independent() -> None:
    values = uniform(0, 0, INDICES, "flip", 2)
    for a, b in ((values[:-1, 0], values[1:, 0]), (values[:, 0], values[:, 1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(len(INDICES))


FIXED = [8, 0, 3, 7, 6, 4, 1, 5, 2, 9]
ORDER = [5, 8, 0, 1, 7, 2, 6, 4, 3, 9]
BLOCKS = [1, 5, 3, 2, 7, 6, 4, 9, 8, 0]
SEEDS = (0, -1, 3, 2**63 - 1, -(2**63))


def test_each_part_of_the_key_selects_another_generator() -> None:
    draws = {
        (seed, epoch, jumps): generator(seed, epoch, jumps=jumps).integers(2**62)
        for seed in SEEDS
        for epoch in (0, 1, 7)
        for jumps in (0, 1)
    }
    assert len(set(draws.values())) == len(draws)
    for (seed, epoch, jumps), value in draws.items():
        assert generator(seed, epoch, jumps=jumps).integers(2**62) == value
    assert generator(3, 0).integers(2**62) == generator(3).integers(2**62)


def test_orders_are_those_of_earlier_versions() -> None:
    """Resumed runs, packed sets and cached statistics depend on the random numbers of earlier versions."""
    assert generator().permutation(10).tolist() == FIXED
    assert generator(3, 5).permutation(10).tolist() == ORDER
    assert generator(-1, 5, jumps=1).permutation(10).tolist() == BLOCKS
