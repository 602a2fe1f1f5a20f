"""Least squares with non-negative coefficients, and 95 % confidence intervals of the coefficients."""

from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

from distdl.perf.arrays import Array

RESAMPLES = 999
LEVEL = 0.96
"""Level at which the 95 % intervals are computed: slightly higher, because the noise is only estimated."""
TINY = float(np.finfo(float).tiny)


def nonnegative(matrix: Array, target: Array) -> Array:
    """Solve a non-negative least squares problem with matrix [n, k] and target [n].

    Columns are scaled to length 1 first; otherwise the solver may not converge.
    """
    scale = np.maximum(np.sqrt((matrix**2).sum(0)), TINY)
    return optimize.nnls(matrix / scale, target)[0] / scale


def nonnegative_fixed(matrix: Array, target: Array, fixed: tuple[int, float] | None) -> Array:
    """Solve a non-negative least squares problem in which coefficient `fixed[0]` has the value `fixed[1]`."""
    if fixed is None:
        return nonnegative(matrix, target)
    index, value = fixed
    others = np.arange(matrix.shape[1]) != index
    theta = np.full(matrix.shape[1], value)
    theta[others] = nonnegative(matrix[:, others], target - matrix[:, index] * value)
    return theta


def separation(matrix: Array) -> float:
    """Return the smallest singular value of a matrix with columns scaled to length 1.

    It is 1 if the columns are orthogonal and 0 if they are linearly dependent.
    """
    length = np.sqrt((matrix**2).sum(0))
    if len(matrix) < matrix.shape[1] or not (length > 0).all():
        return 0.0
    return float(np.linalg.svd(matrix / length, compute_uv=False)[-1])


def bootstrap_intervals(slope: Array, error: Array, theta: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """Compute 95 % intervals of the coefficients of a sum, by a studentized bootstrap of the residuals.

    At the boundary of the constraint the NNLS estimate is not normally distributed, and resampling it gives intervals
    that are too narrow. Therefore the statistic is that of the unconstrained linear fit, for which the bootstrap is
    valid, and the interval is clipped at 0 afterwards, which cannot reduce its coverage. The quantile is that of |t|,
    but at least Student's, since a few resampled residuals vary less than the noise.

    Args:
        slope: [n, k] derivative of the (whitened) log values with respect to the coefficients, at `theta`.
        error: [n] (whitened) log errors at `theta`.
        theta: [k] coefficients.
    Returns:
        low [k] and high [k].
    """
    n, k = slope.shape
    q, r = np.linalg.qr(slope)
    inverse = np.linalg.pinv(r)
    unconstrained = theta + inverse @ (q.T @ error)
    residual = error - q @ (q.T @ error)
    degrees = max(n - k, 1)
    covariance = inverse @ inverse.T
    deviation = np.sqrt(np.diag(covariance)) * np.sqrt(residual @ residual / degrees)
    leverage = np.clip((q**2).sum(1), 0, 1 - 1e-6)
    pool = residual / np.sqrt(1 - leverage)
    draws = np.random.default_rng(seed).choice(pool - pool.mean(), (RESAMPLES, n))
    projected = draws @ q
    total = (draws**2).sum(1)
    scatter = np.sqrt(np.maximum(total - (projected**2).sum(1), 1e-12 * total) / degrees)
    t = (projected @ inverse.T) / np.maximum(scatter[:, None] * np.sqrt(np.diag(covariance)), TINY)
    quantile = np.maximum(np.quantile(np.abs(t), LEVEL, axis=0), stats.t.ppf((1 + LEVEL) / 2, degrees))
    low = np.minimum(unconstrained - quantile * deviation, theta)
    high = np.maximum(unconstrained + quantile * deviation, theta)
    return np.maximum(low, 0), high


def coefficient_covariance(slope: Array, error: Array) -> Array:
    """Estimate the covariance of coefficients, [k, k], from slopes [n, k] and errors [n] that may be autocorrelated."""
    slope, error = decorrelated(slope, error)
    return np.linalg.pinv(slope.T @ slope) * float(error @ error) / max(len(error) - slope.shape[1], 1)


def decorrelated(slope: Array, error: Array, max_rows: int = 2000) -> tuple[Array, Array]:
    """Remove the autocorrelation of errors [n], and reduce slopes [n, k] and errors to at most `max_rows` rows.

    Significant autocorrelation is removed by differencing (Cochrane & Orcutt 1949). Groups of rows are then replaced by
    their sum divided by the square root of their number, which preserves the noise variance and is cheaper to resample.
    """
    correlation = float(np.clip(error[1:] @ error[:-1] / max(error[:-1] @ error[:-1], TINY), 0, 0.99))
    if correlation * np.sqrt(len(error)) > 2:
        slope, error = slope[1:] - correlation * slope[:-1], error[1:] - correlation * error[:-1]
    group = -(-len(error) // max_rows)
    if group == 1:
        return slope, error
    n = len(error) // group * group
    slope_sums = slope[:n].reshape(-1, group, slope.shape[1]).sum(1)
    return slope_sums / np.sqrt(group), error[:n].reshape(-1, group).sum(1) / np.sqrt(group)


def sign_changes(excess: Callable[[float], float], best: float, scale: float) -> tuple[float, float]:
    """Find the values below and above `best` at which `excess` becomes positive: a profile likelihood interval.

    Args:
        excess: a function that is negative at `best` and increases with the distance from it.
        scale: a large value of the argument; the search ends at 100 times this value.
    """
    smallest = 1e-6 * scale
    low = 0.0 if best <= smallest or excess(smallest) <= 0 else sign_change(excess, best, smallest)
    top = max(2 * best, 1e-3 * scale)
    while excess(top) <= 0 and top < 100 * scale:
        top *= 2
    high = top if excess(top) <= 0 else sign_change(excess, max(best, smallest), top)
    return low, high


def sign_change(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """Find the root between `inside`, where `excess` is negative, and `outside`, where it is positive.

    The search uses a logarithmic scale.
    """
    if excess(inside) >= 0:
        return inside
    low, high = float(np.log(inside)), float(np.log(outside))
    root = optimize.root_scalar(lambda x: excess(float(np.exp(x))), bracket=(low, high), method="brentq", xtol=0.01)
    return float(np.exp(root.root))
