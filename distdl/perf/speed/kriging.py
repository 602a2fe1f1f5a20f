"""Interpolation of the residuals of a fit: kriging of log step time over the placements.

Residuals of clusters are not only noise. Unevenly divided shards make one server count slow at every worker count;
machines shared by workers do the same for a worker count; and costs that no term covers vary smoothly with both. So the
covariance of two log errors, in units of the noise's variance, is

    [same measurement] + smooth^2 exp(-d^2 / 2 length^2) + level^2 (number of levels that the two placements share)

with d the distance between the logarithms of the points. The kernel is selected by the evidence of the data (Rasmussen
& Williams 2006, Eq. 5.8, noise variance integrated out), with a prior that limits what ten points can decide: for data
that the terms explain, it selects noise alone, and nothing is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import linalg

from distdl.perf.arrays import Array
from distdl.perf.speed.placements import Placements

PRIOR_NOISE, PRIOR_DEGREES = 0.04, 4
"""Expected noise of a log step time, and the number of measurements that this expectation counts as."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Covariance of log errors, in units of the noise's variance."""

    smooth_deviation: float = 0.0
    length_scale: float = 1.0
    level_deviation: float = 0.0

    def __call__(self, a: Placements, b: Placements) -> Array:
        """[n, m] covariance of the errors at n and m placements, without the noise of a measurement."""
        distance = ((np.log(a.points)[:, None] - np.log(b.points)[None]) ** 2).sum(-1)
        covariance = self.smooth_deviation**2 * np.exp(-0.5 * distance / self.length_scale**2)
        if self.level_deviation:
            for level_a, level_b in zip(a.levels, b.levels, strict=True):
                same = (level_a[:, None] == level_b[None]).all(-1)
                covariance = covariance + self.level_deviation**2 * same
        return covariance

    def factor(self, at: Placements) -> Array:
        """[n, n] lower Cholesky factor of the errors' covariance, noise included."""
        return linalg.cholesky(self(at, at) + np.eye(len(at)), lower=True)

    def whitening(self, at: Placements, extra: int = 0) -> Array | None:
        """[n + extra, n + extra] inverse Cholesky factor; `extra` further errors are noise alone. None: all are."""
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
    """Log errors at measured placements, and the correction of a prediction that follows from them."""

    kernel: Kernel
    measured: Placements
    inverse: Array
    """[n, n] inverse Cholesky factor of the errors' covariance."""
    white_error: Array
    """[n] whitened log errors."""

    @classmethod
    def of(cls, kernel: Kernel, measured: Placements, log_error: Array) -> "Interpolation":
        inverse = kernel.whitening(measured)
        inverse = np.eye(len(measured)) if inverse is None else inverse
        return cls(kernel=kernel, measured=measured, inverse=inverse, white_error=inverse @ log_error)

    def correction(self, at: Placements) -> Array:
        """[m] expected log errors at placements."""
        return self.kernel(at, self.measured) @ (self.inverse.T @ self.white_error)

    def cross_covariance(self, at: Placements) -> Array:
        """[m, n] whitened covariance of the errors at placements with those at the measured ones."""
        return self.kernel(at, self.measured) @ self.inverse.T


def evidence(kernel: Kernel, placements: Placements, error: Array) -> float:
    """Log evidence of log errors [n] under a kernel, up to a constant."""
    factor = kernel.factor(placements)
    white = linalg.solve_triangular(factor, error, lower=True)
    n = len(error) + PRIOR_DEGREES
    variance = (white @ white + PRIOR_DEGREES * PRIOR_NOISE**2) / n
    return float(-0.5 * n * np.log(variance) - np.log(np.diag(factor)).sum() + _log_prior(kernel))


def _log_prior(kernel: Kernel) -> float:
    """Log prior: interpolated errors are about as large as the noise, and similar within a factor of two."""
    parts = (max(kernel.smooth_deviation, 0.25) / 2, kernel.length_scale / 0.7, max(kernel.level_deviation, 0.25))
    return -float((np.log2(parts) ** 2).sum())


def select_kernel(placements: Placements, error: Array, kernels: Sequence[Kernel] = KERNELS) -> Kernel:
    """The kernel with the greatest evidence; at most 150 of the errors are used."""
    few = np.random.default_rng(0).permutation(len(error))[:150]
    return max(kernels, key=lambda kernel: evidence(kernel, placements.take(few), error[few]))
