"""Interpolation of the residuals of a fit: kriging of log step time over the placements.

Residuals on clusters are not only noise. Unevenly divided shards make a server count slow at every worker count,
workers that share machines do the same for a worker count, and costs that no term covers vary smoothly with both.
Therefore the covariance of two log errors, in units of the noise variance, is

    [same measurement] + smooth^2 exp(-d^2 / 2 length^2) + level^2 (number of levels that the two placements share)

where d is the distance between the logarithms of the points. The kernel with the highest evidence is selected
(Rasmussen & Williams 2006, Eq. 5.8, with the noise variance integrated out). A prior limits the choice for few points:
if the terms explain the data, the kernel is noise only, and nothing is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import linalg

from distdl.perf.arrays import Array
from distdl.perf.speed.placements import Placements

PRIOR_NOISE, PRIOR_DEGREES = 0.04, 4
"""Prior standard deviation of the noise of a log step time, and the number of measurements with the same weight."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Covariance of log errors, in units of the noise variance."""

    smooth_deviation: float = 0.0
    """Standard deviation of the smooth part."""
    length_scale: float = 1.0
    """Distance of log placements over which the smooth part varies."""
    level_deviation: float = 0.0
    """Standard deviation of the errors that placements on the same level share."""

    def __call__(self, a: Placements, b: Placements) -> Array:
        """Return the covariance of the errors at n and m placements, [n, m], without measurement noise."""
        distance = ((np.log(a.points)[:, None] - np.log(b.points)[None]) ** 2).sum(-1)
        covariance = self.smooth_deviation**2 * np.exp(-0.5 * distance / self.length_scale**2)
        if self.level_deviation:
            for level_a, level_b in zip(a.levels, b.levels, strict=True):
                same = (level_a[:, None] == level_b[None]).all(-1)
                covariance = covariance + self.level_deviation**2 * same
        return covariance

    def factor(self, at: Placements) -> Array:
        """Return the lower Cholesky factor of the errors' covariance, [n, n], including noise."""
        return linalg.cholesky(self(at, at) + np.eye(len(at)), lower=True)

    def whitening(self, at: Placements, extra: int = 0) -> Array | None:
        """Return the inverse Cholesky factor, [n + extra, n + extra]; None if all errors are only noise.

        Args:
            extra: number of additional errors that are only noise.
        """
        if self == NONE:
            return None
        inverse = linalg.solve_triangular(self.factor(at), np.eye(len(at)), lower=True)
        return np.asarray(linalg.block_diag(inverse, np.eye(extra)))


NONE = Kernel()
KERNELS = [
    NONE,
    *(
        Kernel(smooth_deviation=smooth, length_scale=length, level_deviation=level)
        for smooth, length, level in product((0.0, 1.0, 2.0, 4.0), (0.5, 1.0, 2.0), (0.0, 0.5, 1.0, 2.0))
        if (smooth or level) and (smooth or length == 1.0)
    ),
]


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Log errors at measured placements, from which predictions at other placements are corrected."""

    kernel: Kernel
    measured: Placements
    inverse: Array
    """[n, n] inverse Cholesky factor of the errors' covariance."""
    white_error: Array
    """[n] whitened log errors."""

    @classmethod
    def of(cls, kernel: Kernel, measured: Placements, log_error: Array) -> "Interpolation":
        """Build the interpolation of log errors [n] at n measured placements."""
        inverse = kernel.whitening(measured)
        inverse = np.eye(len(measured)) if inverse is None else inverse
        return cls(kernel=kernel, measured=measured, inverse=inverse, white_error=inverse @ log_error)

    def correction(self, at: Placements) -> Array:
        """Return the expected log errors at m placements, [m]."""
        return self.kernel(at, self.measured) @ (self.inverse.T @ self.white_error)

    def cross_covariance(self, at: Placements) -> Array:
        """Return the whitened covariance of the errors at m placements with those at the measured ones, [m, n]."""
        return self.kernel(at, self.measured) @ self.inverse.T


def evidence(kernel: Kernel, placements: Placements, error: Array) -> float:
    """Return the log evidence of log errors [n] for a kernel, up to a constant."""
    factor = kernel.factor(placements)
    white = linalg.solve_triangular(factor, error, lower=True)
    n = len(error) + PRIOR_DEGREES
    variance = (white @ white + PRIOR_DEGREES * PRIOR_NOISE**2) / n
    return float(-0.5 * n * np.log(variance) - np.log(np.diag(factor)).sum() + _log_prior(kernel))


def _log_prior(kernel: Kernel) -> float:
    """Return the log prior: interpolated errors are of the same magnitude as the noise, within about a factor of 2."""
    parts = (max(kernel.smooth_deviation, 0.25) / 2, kernel.length_scale / 0.7, max(kernel.level_deviation, 0.25))
    return -float((np.log2(parts) ** 2).sum())


def select_kernel(placements: Placements, error: Array, kernels: Sequence[Kernel] = KERNELS) -> Kernel:
    """Select the kernel with the greatest evidence for log errors [n]; at most 150 of them are used."""
    rows = np.random.default_rng(0).permutation(len(error))[:150]
    return max(kernels, key=lambda kernel: evidence(kernel, placements.take(rows), error[rows]))
