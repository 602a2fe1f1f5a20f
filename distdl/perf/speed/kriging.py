"""What a sum of physical terms leaves over, interpolated: kriging of log step time over the configurations.

Residuals of clusters are not noise alone. Shards that do not divide evenly make one server count slow at every worker
count; machines that workers share do the same for a worker count; and costs that no term has bend smoothly over both.
So the covariance of two log errors, in units of the noise's variance, is

    [same measurement] + smooth^2 exp(-d^2 / 2 reach^2) + level^2 (number of levels that the two points share)

with d the distance of the logarithms of the points. How much of each is there is chosen by the evidence of the data
(Rasmussen & Williams 2006, Eq. 5.8, noise variance integrated out), with a prior that keeps ten points from deciding
too much: on data that the terms explain, the choice falls on the noise alone, and nothing is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import linalg

from distdl.perf.speed.measurements import Array, Kind

LEVELS: dict[Kind, Sequence[tuple[int, ...]]] = {"servers": ((0,), (1,)), "replicas": ((0, 1),)}
"""Columns of points that together are one level: a count of servers, of workers; a placement of replicas on nodes."""

NOISE, WORTH = 0.04, 4
"""Expected noise of a log step time, and how many measurements that expectation is worth."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Covariance of log errors, in units of the noise's variance."""

    smooth: float = 0.0
    reach: float = 1.0
    level: float = 0.0

    def __call__(self, kind: Kind, a: Array, b: Array) -> Array:
        """[n, m] covariance of errors at points a [n, 3] and b [m, 3], the noise of a measurement left out."""
        distance = ((np.log(a)[:, None] - np.log(b)[None]) ** 2).sum(-1)
        covariance = self.smooth**2 * np.exp(-0.5 * distance / self.reach**2)
        if self.level:
            for columns in LEVELS[kind]:
                same = (a[:, None, columns] == b[None][:, :, columns]).all(-1)
                covariance = covariance + self.level**2 * same
        return covariance

    def factor(self, kind: Kind, points: Array) -> Array:
        """[n, n] lower Cholesky factor of the errors' covariance, noise included."""
        return linalg.cholesky(self(kind, points, points) + np.eye(len(points)), lower=True)


NONE = Kernel()
KERNELS = [
    NONE,
    *(
        Kernel(smooth=smooth, reach=reach, level=level)
        for smooth, reach, level in product((0.0, 1.0, 2.0, 4.0), (0.5, 1.0, 2.0), (0.0, 0.5, 1.0, 2.0))
        if (smooth or level) and (smooth or reach == 1.0)
    ),
]


def evidence(kernel: Kernel, kind: Kind, points: Array, error: Array) -> float:
    """Log evidence of log errors [n] at points [n, 3] under a kernel, up to a constant."""
    factor = kernel.factor(kind, points)
    white = linalg.solve_triangular(factor, error, lower=True)
    n = len(error) + WORTH
    variance = (white @ white + WORTH * NOISE**2) / n
    return float(-0.5 * n * np.log(variance) - np.log(np.diag(factor)).sum() + _prior(kernel))


def _prior(kernel: Kernel) -> float:
    """Log prior: errors left over by the terms are about as large as the noise and reach over a factor of two."""
    parts = (max(kernel.smooth, 0.25) / 2, kernel.reach / 0.7, max(kernel.level, 0.25))
    return -float((np.log2(parts) ** 2).sum())


def choose(kind: Kind, points: Array, error: Array, kernels: Sequence[Kernel] = KERNELS) -> Kernel:
    """The kernel with the greatest evidence."""
    return max(kernels, key=lambda kernel: evidence(kernel, kind, points, error))
