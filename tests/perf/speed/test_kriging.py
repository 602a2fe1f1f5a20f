"""Evidence of a kernel, compared with SciPy's density, and interpolation by hand."""

import numpy as np
import pytest
from scipy import stats

from distdl.perf.speed.kriging import (
    KERNELS,
    NONE,
    PRIOR_DEGREES,
    PRIOR_NOISE,
    Interpolation,
    Kernel,
    _log_prior,
    evidence,
)
from distdl.perf.speed.placements import Placements

POINTS = Placements(kind="servers", points=np.array([(1, 1, 8), (1, 2, 8), (2, 2, 8), (2, 4, 8), (4, 4, 16)], float))


def test_the_evidence_is_the_density_of_a_multivariate_t_distribution_up_to_a_constant() -> None:
    """An inverse gamma prior of the noise variance, integrated out, gives a t distribution with its degrees."""
    generator = np.random.default_rng(0)
    constants = []
    for kernel in KERNELS[::5]:
        covariance = kernel(POINTS, POINTS) + np.eye(len(POINTS))
        density = stats.multivariate_t(shape=PRIOR_NOISE**2 * covariance, df=PRIOR_DEGREES)
        error = 0.1 * generator.standard_normal(len(POINTS))
        constants.append(evidence(kernel, POINTS, error) - _log_prior(kernel) - density.logpdf(error))
    assert constants == pytest.approx([constants[0]] * len(constants))


@pytest.mark.parametrize(
    ("kernel", "log_prior"),
    [
        (Kernel(smooth_deviation=2.0, length_scale=0.7, level_deviation=1.0), 0),
        (Kernel(smooth_deviation=4.0, length_scale=0.7, level_deviation=1.0), -1),
        (Kernel(smooth_deviation=2.0, length_scale=1.4, level_deviation=1.0), -1),
        (Kernel(smooth_deviation=2.0, length_scale=0.7, level_deviation=0.5), -1),
        (Kernel(smooth_deviation=0.5, length_scale=0.35, level_deviation=4.0), -4 - 1 - 4),
    ],
)
def test_the_prior_decreases_by_the_square_of_each_factor_of_2(kernel: Kernel, log_prior: float) -> None:
    assert _log_prior(kernel) == pytest.approx(log_prior)


def test_without_a_kernel_nothing_is_corrected() -> None:
    interpolation = Interpolation.of(NONE, POINTS, np.full(len(POINTS), 0.3))
    assert (interpolation.correction(POINTS) == 0).all()
    assert NONE.whitening(POINTS) is None


def test_the_correction_of_one_measurement_is_its_share_of_smooth_variance() -> None:
    """Smooth variance 4 and noise variance 1: 4 / 5 of the error at the point, exp(-d^2 / 2) of that at d."""
    first = POINTS.take(np.array([0]))
    kernel = Kernel(smooth_deviation=2.0, length_scale=1.0)
    at = Placements(kind="servers", points=np.array([(1, 1, 8), (1, np.e, 8), (1, np.e**2, 8)], float))
    correction = Interpolation.of(kernel, first, np.array([0.1])).correction(at)
    assert correction == pytest.approx(0.08 * np.exp([0.0, -0.5, -2.0]))


def test_whitening_is_the_inverse_of_the_factor() -> None:
    kernel = Kernel(level_deviation=1.0)
    inverse, factor = kernel.whitening(POINTS, extra=2), kernel.factor(POINTS)
    assert inverse is not None and inverse.shape == (7, 7)
    assert inverse[:5, :5] @ factor == pytest.approx(np.eye(5))
    assert inverse[5:, 5:] == pytest.approx(np.eye(2)) and not inverse[5:, :5].any()
    assert factor @ factor.T == pytest.approx(kernel(POINTS, POINTS) + np.eye(5))
