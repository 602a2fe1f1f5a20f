"""Values of a form at placements, by hand."""

import numpy as np
import pytest

from distdl.perf.speed.form import Terms

TERMS = Terms(values=np.array([[3.0, 4.0], [4.0, 3.0], [2.0, 0.0]]), compute=1)
"""3 s of compute and 4 s of exchange, the reverse, and compute alone, at coefficients of 1."""
ONES = np.ones(2)


@pytest.mark.parametrize(
    ("overlap", "step_s"), [(1.0, (7, 7, 2)), (2.0, (5, 5, 2)), (3.0, (91 ** (1 / 3),) * 2 + (2,))]
)
def test_the_step_time_is_the_power_mean_of_compute_and_exchange(overlap: float, step_s: tuple[float, ...]) -> None:
    assert TERMS.time(ONES, overlap) == pytest.approx(step_s)


@pytest.mark.parametrize("overlap", [1.0, 2.0, 3.0])
def test_derivatives_are_those_of_finite_differences(overlap: float) -> None:
    theta, h = np.array([1.5, 0.5]), 1e-6
    for index in range(2):
        change = h * (np.arange(2) == index)
        difference = (TERMS.time(theta + change, overlap) - TERMS.time(theta - change, overlap)) / (2 * h)
        assert TERMS.jacobian(theta, overlap)[:, index] == pytest.approx(difference, abs=1e-5)


@pytest.mark.parametrize("overlap", [1.5, 3.0])
def test_the_derivative_with_respect_to_the_inverse_overlap_is_that_of_a_finite_difference(overlap: float) -> None:
    u, h = 1 / overlap, 1e-6
    difference = (TERMS.time(ONES, 1 / (u + h)) - TERMS.time(ONES, 1 / (u - h))) / (2 * h)
    assert TERMS.overlap_gradient(ONES, overlap) == pytest.approx(difference / TERMS.time(ONES, overlap), abs=1e-5)
