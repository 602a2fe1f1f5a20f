"""Non-negative least squares, separation of terms, autocorrelated errors, and roots of a profile likelihood."""

import numpy as np
import pytest
from scipy import stats

from distdl.perf.regression import (
    LEVEL,
    bootstrap_intervals,
    coefficient_covariance,
    decorrelated,
    nonnegative,
    nonnegative_fixed,
    separation,
    sign_changes,
)


def test_separation_is_0_for_a_linearly_dependent_column() -> None:
    x = np.arange(1.0, 9)
    assert separation(np.stack([np.ones(8), x, 2 * x + 1], 1)) < 1e-12
    assert separation(np.stack([np.ones(8), x, x**2], 1)) > 0.01


def test_nonnegative_least_squares_over_many_scales() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((30, 4)) * [1e-9, 1.0, 1e6, 1e-3]
    truth = np.array([2e9, 0.0, 3e-6, 5.0])
    assert nonnegative(matrix, matrix @ truth) == pytest.approx(truth, rel=1e-6, abs=1e-9)


def test_intervals_of_normal_errors_are_those_of_the_t_distribution() -> None:
    """Compared with scipy's linear regression."""
    rng = np.random.default_rng(0)
    x = np.arange(1.0, 61)
    y = 3 + 0.2 * x + 0.5 * rng.standard_normal(60)
    line = stats.linregress(x, y)
    theta = np.array([line.intercept, line.slope])
    slope = np.stack([np.ones(60), x], 1)
    low, high = bootstrap_intervals(slope, y - slope @ theta, theta)
    quantile = stats.t.ppf((1 + LEVEL) / 2, 58)
    expected = quantile * np.array([line.intercept_stderr, line.stderr])
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)
    assert (high + low) / 2 == pytest.approx(theta)
    assert (high - low >= 2 * expected * (1 - 1e-9)).all()


def test_a_fixed_coefficient_keeps_its_value_and_the_others_are_fitted_to_the_rest() -> None:
    matrix = np.random.default_rng(0).random((20, 3))
    target = matrix @ np.array([1.0, 2.0, 3.0])
    assert nonnegative_fixed(matrix, target, (1, 2.0)) == pytest.approx([1, 2, 3])
    assert nonnegative_fixed(matrix, target, (1, 0.5))[1] == 0.5
    assert nonnegative_fixed(matrix, target, None) == pytest.approx([1, 2, 3])


def test_autocorrelated_errors_count_as_fewer_measurements() -> None:
    rng = np.random.default_rng(0)
    white, error = rng.standard_normal(400), np.zeros(400)
    for i in range(1, 400):
        error[i] = 0.9 * error[i - 1] + white[i]
    slope = np.ones((400, 1))
    independent_variance = float(white @ white) / 399 / 400
    assert coefficient_covariance(slope, white)[0, 0] == pytest.approx(independent_variance, rel=1e-9)
    # The mean of an AR(1) series varies 1 / (1 - 0.9)^2 times as much as that of its innovations.
    assert coefficient_covariance(slope, error)[0, 0] == pytest.approx(100 * independent_variance, rel=0.5)


def test_grouped_rows_keep_the_information() -> None:
    slope, error = np.ones((6000, 1)), np.random.default_rng(0).standard_normal(6000)
    reduced, reduced_error = decorrelated(slope, error)
    assert len(reduced) == len(reduced_error) == 2000
    assert (reduced**2).sum() == pytest.approx((slope**2).sum())
    assert reduced_error.std() == pytest.approx(error.std(), rel=0.05)


def test_sign_changes_bracket_the_best_value() -> None:
    low, high = sign_changes(lambda x: np.log(x / 2) ** 2 - 1, best=2.0, scale=10.0)
    assert low == pytest.approx(2 / np.e, rel=0.02) and high == pytest.approx(2 * np.e, rel=0.02)
    low, high = sign_changes(lambda x: x - 1, best=1e-9, scale=10.0)
    assert low == 0.0 and high == pytest.approx(1, rel=0.02)
