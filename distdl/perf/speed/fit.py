"""Fitting a sum of physical costs to measured step times: on relative error, none negative, refused if unidentifiable.

A form of a step's time is a sum of terms for compute, a sum of terms for exchange, and how far the two overlap:

    T = (C^g + E^g)^(1/g),   C = sum_j c_j C_j(point),   E = sum_k e_k E_k(point),   c, e >= 0

g = 1 adds them, g -> infinity takes the longer (Pollux, Qiao et al. 2021, Eq. 10). T is homogeneous of degree 1 in
(c, e), so T = J (c, e) with J its Jacobian: each Gauss-Newton step on log T is one non-negative least squares problem.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import optimize, stats

from distdl.core.errors import UserError
from distdl.perf.speed.measurements import Array, Kind, Measurements

Term = Callable[[Array], Array]
"""A cost as a function of points [n, 3], in units of its coefficient."""

OVERLAPS = (1.0, 10.0)
"""Range of g (Pollux): from no overlap to all but complete overlap."""
SEPARABLE = 1e-3
"""Smallest singular value, of terms scaled to length 1 in relative time, at which they are told apart: below it, noise
of 5 % in the times moves a coefficient by more than the whole time."""
RESAMPLES = 999
LEVEL = 0.96
"""Of the intervals called 95 %: a little more, since the noise they are made from is itself estimated."""
TINY = float(np.finfo(float).tiny)


class Unidentifiable(UserError):
    """The measurements cannot tell the terms of a model apart; `points` [k, 3] would."""

    def __init__(self, message: str, points: Array) -> None:
        super().__init__(message)
        self.points = points


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a step's time is made of."""

    name: str
    kind: Kind
    compute: Mapping[str, Term] = field(default_factory=dict)
    exchange: Mapping[str, Term] = field(default_factory=dict)
    overlap: float | None = 1.0
    """g; None where it is to be fitted, as one more coefficient named gamma."""
    relative: bool = False
    """Fit T_fitted / T_measured - 1, as Optimus is fitted, in place of its logarithm; for sums only (g = 1)."""

    @property
    def names(self) -> list[str]:
        return [*self.compute, *self.exchange]

    def at(self, points: Array) -> "Terms":
        """The terms evaluated at points [n, 3]."""
        columns = [term(points) for term in (*self.compute.values(), *self.exchange.values())]
        return Terms(values=np.stack(columns, 1), compute=len(self.compute))


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Values [n, k] of a form's terms at n points, those of compute first."""

    values: Array
    compute: int

    def take(self, rows: Array) -> "Terms":
        return replace(self, values=self.values[rows])

    def parts(self, theta: Array) -> tuple[Array, Array]:
        """[n] seconds of compute and of exchange."""
        a = self.compute
        return self.values[:, :a] @ theta[:a], self.values[:, a:] @ theta[a:]

    def time(self, theta: Array, overlap: float) -> Array:
        """[n] seconds a step."""
        if overlap == 1:
            return self.values @ theta
        longer, ratio = _longer(*self.parts(theta))
        return longer * (1 + ratio**overlap) ** (1 / overlap)

    def jacobian(self, theta: Array, overlap: float) -> Array:
        """[n, k] derivative of `time`; `jacobian @ theta` is `time` again."""
        if overlap == 1:
            return self.values
        total = np.maximum(self.time(theta, overlap), TINY)
        slopes = [np.maximum(part / total, 1e-6) ** (overlap - 1) for part in self.parts(theta)]
        return self.values * np.repeat(slopes, [self.compute, self.values.shape[1] - self.compute], 0).T

    def overlap_slope(self, theta: Array, overlap: float) -> Array:
        """[n] derivative of log `time` in 1 / g, in which it is close to linear: log(1 + x) where both are equal."""
        step = 1e-4
        u = np.clip(1 / overlap, 1 / OVERLAPS[1] + step, 1 - step)
        above, below = (np.log(self.time(theta, 1 / v)) for v in (u + step, u - step))
        return (above - below) / (2 * step)


def _longer(compute: Array, exchange: Array) -> tuple[Array, Array]:
    longer = np.maximum(compute, exchange)
    return longer, np.minimum(compute, exchange) / np.maximum(longer, TINY)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Log times to be explained by a form's terms: the whole steps, then compute alone where it was measured."""

    terms: Terms
    log_s: Array
    alone: Terms | None = None
    """Terms at the rows whose compute is known apart."""
    log_alone_s: Array = field(default_factory=lambda: np.zeros(0))
    known: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """Physical values by coefficient's index: (value, weight beside one measured time)."""

    @classmethod
    def of(cls, form: Form, data: Measurements, known: Mapping[str, tuple[float, float]] | None = None) -> "Problem":
        terms, alone, log_alone = form.at(data.points), None, np.zeros(0)
        if data.sync_s is not None and form.overlap != 1:
            alone, log_alone = terms, np.log(data.step_s - data.sync_s)
        prior = {form.names.index(name): value for name, value in (known or {}).items() if name in form.names}
        return cls(terms=terms, log_s=np.log(data.step_s), alone=alone, log_alone_s=log_alone, known=prior)

    def take(self, rows: Array) -> "Problem":
        alone = None if self.alone is None else self.alone.take(rows)
        return replace(
            self,
            terms=self.terms.take(rows),
            log_s=self.log_s[rows],
            alone=alone,
            log_alone_s=self.log_alone_s if alone is None else self.log_alone_s[rows],
        )

    def linear(self, theta: Array, overlap: float) -> tuple[Array, Array]:
        """(log times that theta explains, their derivative in theta), rows of `alone` after the whole steps."""
        time = np.maximum(self.terms.time(theta, overlap), 1e-9 * np.exp(self.log_s))
        logs, slopes = [np.log(time)], [self.terms.jacobian(theta, overlap) / time[:, None]]
        if self.alone is not None:
            only = np.where(np.arange(len(theta)) < self.alone.compute, self.alone.values, 0.0)
            compute = np.maximum(only @ theta, 1e-9 * np.exp(self.log_alone_s))
            logs.append(np.log(compute))
            slopes.append(only / compute[:, None])
        return np.concatenate(logs), np.concatenate(slopes)

    @property
    def observed(self) -> Array:
        return np.concatenate([self.log_s, self.log_alone_s])


def solve(
    problem: Problem,
    overlap: float,
    *,
    free: bool = False,
    fixed: tuple[int, float] | None = None,
    start: Array | None = None,
    whiten: Array | None = None,
) -> "Solution":
    """Minimise the squared log error, no coefficient negative, by Gauss-Newton with NNLS.

    Args:
        overlap: g, or where to start it.
        free: fit g too.
        fixed: (index, value) of a coefficient that stays.
        start: coefficients to start from; without them, those of a plain sum fitted to relative error.
        whiten: [n, n] inverse Cholesky factor of the errors' covariance; without it they are independent and equal.
    """
    theta = (start if start is not None else relative_fit(problem)).copy()
    if fixed is not None:
        theta[fixed[0]] = fixed[1]
    at = Solution.of(problem, theta, 1 / overlap, whiten)
    for _ in range(40):
        towards, inverse = at.step(free, fixed)
        for share in (1.0, 0.5, 0.25, 0.1, 0.03):
            u = at.inverse + share * (inverse - at.inverse)
            new = Solution.of(problem, at.theta + share * (towards - at.theta), u, whiten)
            if new.cost < at.cost:
                break
        else:
            break
        at, before = new, at.cost
        if at.cost > before * (1 - 1e-6):
            break
    return at


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Coefficients and 1 / g, with the errors and their derivative there."""

    theta: Array
    inverse: float
    error: Array
    """[n] (whitened) errors, those from known values last."""
    slope: Array
    """[n, k + 1] derivative of the (whitened) log times in the coefficients and in 1 / g."""
    cost: float

    @property
    def overlap(self) -> float:
        return 1 / self.inverse

    @classmethod
    def of(cls, problem: Problem, theta: Array, inverse: float, whiten: Array | None) -> "Solution":
        logs, slope = problem.linear(theta, 1 / inverse)
        bend = np.zeros(len(logs))
        bend[: len(problem.log_s)] = problem.terms.overlap_slope(theta, 1 / inverse)
        slope, error = np.column_stack([slope, bend]), problem.observed - logs
        if whiten is not None:
            slope, error = whiten @ slope, whiten @ error
        for index, (value, weight) in problem.known.items():
            slope = np.vstack([slope, weight / value * (np.arange(len(theta) + 1) == index)])
            error = np.append(error, weight * (1 - theta[index] / value))
        return cls(theta=theta, inverse=inverse, error=error, slope=slope, cost=float(error @ error))

    def step(self, free: bool, fixed: tuple[int, float] | None) -> tuple[Array, float]:
        """Where the problem, made linear here, has its least error: coefficients and 1 / g."""
        # Far from the data the logarithm is not linear; a bounded step comes back instead of overshooting.
        linear, bend = self.slope[:, :-1], self.slope[:, -1]
        target, inverse = np.clip(self.error, -1, 1) + linear @ self.theta, self.inverse
        if free:
            low, high = max(1 / OVERLAPS[1], inverse / 1.5), min(1 / OVERLAPS[0], inverse * 1.5)
            found = _least(np.column_stack([linear, bend]), target + bend * (inverse - low), fixed)
            if found[-1] <= high - low:
                return found[:-1], low + float(found[-1])
            target, inverse = target - bend * (high - inverse), high
        return _least(linear, target, fixed), inverse


def _least(slope: Array, target: Array, fixed: tuple[int, float] | None) -> Array:
    if fixed is None:
        return nonnegative(slope, target)
    index, value = fixed
    others = np.arange(slope.shape[1]) != index
    found = np.full(slope.shape[1], value)
    found[others] = nonnegative(slope[:, others], target - slope[:, index] * value)
    return found


def relative_fit(problem: Problem) -> Array:
    """Coefficients [k] of a plain sum that minimise the squared relative error, none negative."""
    relative = problem.terms.values / np.exp(problem.log_s)[:, None]
    return nonnegative(relative, np.ones(len(relative)))


def nonnegative(matrix: Array, target: Array) -> Array:
    """Non-negative least squares; columns are brought to one scale first, without which it may not converge."""
    scale = np.maximum(np.sqrt((matrix**2).sum(0)), TINY)
    return optimize.nnls(matrix / scale, target)[0] / scale


def solve_overlap(problem: Problem, *, whiten: Array | None = None) -> Solution:
    """Coefficients and g with the least squared log error, searched from little, some and much overlap."""
    found = [solve(problem, overlap, free=True, whiten=whiten) for overlap in (1.2, 2.5, 6.0)]
    return min(found, key=lambda one: one.cost)


def separation(matrix: Array) -> float:
    """Smallest singular value of the columns scaled to length 1: 1 where they are orthogonal, 0 where one follows
    from the others."""
    length = np.sqrt((matrix**2).sum(0))
    if len(matrix) < matrix.shape[1] or not (length > 0).all():
        return 0.0
    return float(np.linalg.svd(matrix / length, compute_uv=False)[-1])


def identifiable(form: Form, data: Measurements) -> bool:
    """Whether the points tell the form's terms apart, with one measurement to spare for the noise."""
    problem = Problem.of(form, data)
    spare = len(data) > len(form.names) and len(np.unique(data.points, axis=0)) >= len(form.names)
    # Overlap bends the terms but adds no direction: what is collinear without it stays so.
    return spare and separation(problem.linear(relative_fit(problem), 1.0)[1]) > SEPARABLE


def intervals(slope: Array, error: Array, theta: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95 % intervals of a sum's coefficients, by a studentised bootstrap of the residuals.

    NNLS at its boundary is not normal, and resampling it undercovers there. So the statistic is that of the linear fit
    without the constraint, whose distribution the bootstrap does get right, and the interval is cut at 0 afterwards,
    by which its coverage can only gain. The quantile is that of |t|, and never below Student's, since a handful of
    residuals resampled are less scattered than the noise they came from.

    Args:
        slope: [n, k] derivative of the (whitened) log times in the coefficients, at `theta`.
        error: [n] (whitened) log errors at `theta`.
        theta: [k] coefficients.
    Returns:
        low [k] and high [k].
    """
    n, k = slope.shape
    q, r = np.linalg.qr(slope)
    inverse = np.linalg.pinv(r)
    free = theta + inverse @ (q.T @ error)
    rest = error - q @ (q.T @ error)
    spare = max(n - k, 1)
    covariance = inverse @ inverse.T
    deviation = np.sqrt(np.diag(covariance)) * np.sqrt(rest @ rest / spare)
    leverage = np.clip((q**2).sum(1), 0, 1 - 1e-6)
    pool = rest / np.sqrt(1 - leverage)
    draws = np.random.default_rng(seed).choice(pool - pool.mean(), (RESAMPLES, n))
    onto = draws @ q
    scatter = np.sqrt(np.maximum((draws**2).sum(1) - (onto**2).sum(1), 1e-12 * (draws**2).sum(1)) / spare)
    t = (onto @ inverse.T) / np.maximum(scatter[:, None] * np.sqrt(np.diag(covariance)), TINY)
    wide = np.maximum(np.quantile(np.abs(t), LEVEL, axis=0), stats.t.ppf((1 + LEVEL) / 2, spare)) * deviation
    low, high = np.minimum(free - wide, theta), np.maximum(free + wide, theta)
    return np.maximum(low, 0), high


def spread(slope: Array, error: Array) -> Array:
    """[k, k] covariance of coefficients, from slopes [n, k] and errors [n] that may follow one another."""
    slope, error = independent(slope, error)
    return np.linalg.pinv(slope.T @ slope) * float(error @ error) / max(len(error) - slope.shape[1], 1)


def independent(slope: Array, error: Array, most: int = 2000) -> tuple[Array, Array]:
    """Slopes and errors of a series freed of the errors' memory from one to the next, in at most `most` rows.

    Where the memory is plain (Cochrane & Orcutt 1949), what is left of each error is kept; rows are then joined to sums
    over the root of their number, as informative and cheaper to resample.
    """
    memory = float(np.clip(error[1:] @ error[:-1] / max(error[:-1] @ error[:-1], TINY), 0, 0.99))
    if memory * np.sqrt(len(error)) > 2:
        slope, error = slope[1:] - memory * slope[:-1], error[1:] - memory * error[:-1]
    group = -(-len(error) // most)
    if group == 1:
        return slope, error
    whole = len(error) // group * group
    joined = slope[:whole].reshape(-1, group, slope.shape[1]).sum(1), error[:whole].reshape(-1, group).sum(1)
    return joined[0] / np.sqrt(group), joined[1] / np.sqrt(group)


def profile_intervals(problem: Problem, theta: Array, overlap: float, *, whiten: Array | None = None) -> Array:
    """[k + 1, 2] 95 % intervals by profile likelihood of the coefficients and, last, of a fitted g.

    Where exchange hides behind compute, a time says little about it up to some size and much beyond: no straight line
    through the estimate shows that, so here a coefficient is moved, all others fitted anew, until the error grows by
    more than chance would have it (F test; Seber & Wild 2003, Sec. 5.4).
    """
    n, k = len(problem.log_s), len(theta) + 1

    def cost(g: float, *, free: bool, fixed: tuple[int, float] | None = None) -> float:
        # Where exchange is hidden its coefficient has no slope to climb by: the second search comes from a plain sum.
        starts = [(g, theta), (2.0 if free else g, None)]
        found = [solve(problem, at, free=free, fixed=fixed, start=start, whiten=whiten) for at, start in starts]
        return min(one.cost for one in found)

    # Compute that was measured apart shares its noise with the step it was part of: it is no further measurement here.
    limit = cost(overlap, free=True) * (1 + stats.f.ppf(LEVEL, 1, max(n - k, 1)) / max(n - k, 1))

    def excess(index: int, value: float) -> float:
        return cost(overlap, free=True, fixed=(index, value)) - limit

    found = [_crossings(lambda value, j=j: excess(j, value), theta[j], _scale(problem, j)) for j in range(k - 1)]
    ends = [
        end if cost(end, free=False) <= limit else _root(lambda g: cost(g, free=False) - limit, overlap, end)
        for end in OVERLAPS
    ]
    return np.array([*found, ends])


def _scale(problem: Problem, index: int) -> float:
    """A coefficient that would by itself explain the largest time."""
    values = problem.terms.values[:, index]
    return float(np.exp(problem.log_s.max()) / np.max(values))


def _crossings(excess: Callable[[float], float], best: float, scale: float) -> list[float]:
    """Where `excess` turns positive below and above `best`."""
    least = 1e-6 * scale
    low = 0.0 if best <= least or excess(least) <= 0 else _root(excess, best, least)
    top = max(2 * best, 1e-3 * scale)
    while excess(top) <= 0 and top < 100 * scale:
        top *= 2
    high = top if excess(top) <= 0 else _root(excess, max(best, least), top)
    return [low, high]


def _root(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """Between a value with negative and one with positive `excess`, on a scale of ratios."""
    a, b = np.log(inside), np.log(outside)
    if excess(inside) >= 0:
        return inside
    return float(np.exp(optimize.brentq(lambda x: excess(float(np.exp(x))), a, b, xtol=0.01)))


def folds(data: Measurements, most: int = 100) -> Sequence[Array]:
    """Boolean masks [n], each of one configuration that is left out; of more than `most`, `most` groups of them."""
    number = data.configurations
    if number.max() + 1 > most:
        shuffled = np.random.default_rng(0).permutation(number.max() + 1) % most
        number = shuffled[number]
    return [number == one for one in np.unique(number)]
