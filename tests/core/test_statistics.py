"""Statistics of repeated measurements, and their comparison."""

import math

import pytest
from scipy.stats import t, ttest_ind

from distdl.core.statistics import spread

HIGH, LOW = [78.1, 78.0, 79.4], [73.4, 76.7, 74.7]


def test_an_interval_is_from_students_t() -> None:
    interval = spread(HIGH)
    low, high = t.interval(0.95, 2, loc=sum(HIGH) / 3, scale=0.78102496759 / 3**0.5)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_the_interval_of_a_difference_is_welchs() -> None:
    interval = spread(HIGH).minus(spread(LOW))
    expected = ttest_ind(HIGH, LOW, equal_var=False).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.n == 3


def test_a_significantly_better_interval_may_overlap() -> None:
    high, low = spread(HIGH), spread(LOW)
    assert high.low < low.high
    assert high.beats(low)
    assert not low.beats(high)


def test_a_single_repetition_is_never_better() -> None:
    assert math.isnan(spread([99.0]).minus(spread(LOW)).low)
    assert not spread([99.0]).beats(spread(LOW))


def test_repetitions_without_variance_are_compared_exactly() -> None:
    assert spread([2.0, 2.0]).beats(spread([1.0, 1.0]))
    assert not spread([2.0, 2.0]).beats(spread([2.0, 2.0]))
