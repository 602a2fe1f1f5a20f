"""Fit the non-negative coefficients of a form to the logarithm of measured step times.

Because a form's time is homogeneous of degree 1 in its coefficients, each Gauss-Newton step on log time is one
non-negative least squares problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from distdl.core.errors import UserError
from distdl.perf.arrays import Array, Rows
from distdl.perf.regression import LEVEL, nonnegative, nonnegative_fixed, separation, sign_change, sign_changes
from distdl.perf.speed.form import OVERLAPS, Form, Terms
from distdl.perf.speed.measurements import Measurements

SEPARABLE = 1e-3
"""Minimum `separation` of identifiable terms: below it, noise of 5 % in the times changes a coefficient by more than
the step time."""
Known = Mapping[str, tuple[float, float]]
"""Physical values by coefficient: (value, weight relative to one measured time)."""


class Unidentifiable(UserError):
    """The measurements do not determine the coefficients of a model; adding `points` [k, 3] would."""

    def __init__(self, message: str, points: Array) -> None:
        super().__init__(message)
        self.points = points


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Log times to be fitted by a form's terms: step times, and compute times if they were measured."""

    terms: Terms
    log_s: Array
    compute_only: Terms | None = None
    """The terms at the rows whose compute was measured separately."""
    log_compute_s: Array = field(default_factory=lambda: np.zeros(0))
    known: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """Physical values by index of the coefficient."""

    @classmethod
    def of(cls, form: Form, data: Measurements, known: Known | None = None) -> "Problem":
        """Build the problem of fitting a form to measurements."""
        terms, compute_only, log_compute = form.at(data.placements), None, np.zeros(0)
        if data.sync_s is not None and form.overlap != 1:
            compute_only, log_compute = terms, np.log(data.step_s - data.sync_s)
        prior = {form.names.index(name): value for name, value in (known or {}).items() if name in form.names}
        return cls(
            terms=terms,
            log_s=np.log(data.step_s),
            compute_only=compute_only,
            log_compute_s=log_compute,
            known=prior,
        )

    def take(self, rows: Rows) -> "Problem":
        """Select measurements."""
        compute_only = None if self.compute_only is None else self.compute_only.take(rows)
        return replace(
            self,
            terms=self.terms.take(rows),
            log_s=self.log_s[rows],
            compute_only=compute_only,
            log_compute_s=self.log_compute_s if compute_only is None else self.log_compute_s[rows],
        )

    def linear(self, theta: Array, overlap: float) -> tuple[Array, Array]:
        """Return the log times at theta, [n], and their derivative, [n, k]. Compute times follow the step times."""
        time = np.maximum(self.terms.time(theta, overlap), 1e-9 * np.exp(self.log_s))
        logs, slopes = [np.log(time)], [self.terms.jacobian(theta, overlap) / time[:, None]]
        if self.compute_only is not None:
            values = np.where(np.arange(len(theta)) < self.compute_only.compute, self.compute_only.values, 0.0)
            compute = np.maximum(values @ theta, 1e-9 * np.exp(self.log_compute_s))
            logs.append(np.log(compute))
            slopes.append(values / compute[:, None])
        return np.concatenate(logs), np.concatenate(slopes)

    @property
    def observed(self) -> Array:
        """[n] measured log times: of steps, then of compute."""
        return np.concatenate([self.log_s, self.log_compute_s])


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Coefficients and 1 / g, with the errors and their derivatives at these values."""

    theta: Array
    inverse: float
    """1 / g."""
    error: Array
    """[n] (whitened) errors, those of known values last."""
    slope: Array
    """[n, k + 1] derivative of the (whitened) log times with respect to the coefficients and 1 / g."""
    cost: float
    """Sum of squared errors."""

    @property
    def overlap(self) -> float:
        """The overlap g."""
        return 1 / self.inverse

    @classmethod
    def of(cls, problem: Problem, theta: Array, inverse: float, whiten: Array | None) -> "Solution":
        """Evaluate a problem at coefficients `theta` [k] and 1 / g."""
        logs, slope = problem.linear(theta, 1 / inverse)
        gradient = np.zeros(len(logs))
        gradient[: len(problem.log_s)] = problem.terms.overlap_gradient(theta, 1 / inverse)
        slope, error = np.column_stack([slope, gradient]), problem.observed - logs
        if whiten is not None:
            slope, error = whiten @ slope, whiten @ error
        for index, (value, weight) in problem.known.items():
            slope = np.vstack([slope, weight / value * (np.arange(len(theta) + 1) == index)])
            error = np.append(error, weight * (1 - theta[index] / value))
        return cls(theta=theta, inverse=inverse, error=error, slope=slope, cost=float(error @ error))

    def minimum(self, free: bool, fixed: tuple[int, float] | None) -> tuple[Array, float]:
        """Return the coefficients and 1 / g that minimize the error of the problem linearized at this solution."""
        # The linearization is not valid for large errors; limiting them prevents overshooting.
        slope, gradient = self.slope[:, :-1], self.slope[:, -1]
        target, inverse = np.clip(self.error, -1, 1) + slope @ self.theta, self.inverse
        if free:
            low, high = max(1 / OVERLAPS[1], inverse / 1.5), min(1 / OVERLAPS[0], inverse * 1.5)
            theta = nonnegative_fixed(np.column_stack([slope, gradient]), target + gradient * (inverse - low), fixed)
            if theta[-1] <= high - low:
                return theta[:-1], low + float(theta[-1])
            target, inverse = target - gradient * (high - inverse), high
        return nonnegative_fixed(slope, target, fixed), inverse


def solve(
    problem: Problem,
    overlap: float,
    *,
    free: bool = False,
    fixed: tuple[int, float] | None = None,
    start: Array | None = None,
    whiten: Array | None = None,
) -> Solution:
    """Minimize the squared log error with non-negative coefficients, by Gauss-Newton with NNLS.

    Args:
        overlap: g, or its initial value.
        free: whether to fit g too.
        fixed: (index, value) of a coefficient that is not fitted.
        start: [k] initial coefficients; by default those of a plain sum fitted on relative error.
        whiten: [n, n] inverse Cholesky factor of the errors' covariance; by default errors are independent with equal
            variance.
    """
    theta = (start if start is not None else relative_fit(problem)).copy()
    if fixed is not None:
        theta[fixed[0]] = fixed[1]
    current = Solution.of(problem, theta, 1 / overlap, whiten)
    for _ in range(40):
        target, inverse = current.minimum(free, fixed)
        for damping in (1.0, 0.5, 0.25, 0.1, 0.03):
            u = current.inverse + damping * (inverse - current.inverse)
            new = Solution.of(problem, current.theta + damping * (target - current.theta), u, whiten)
            if new.cost < current.cost:
                break
        else:
            break
        current, previous_cost = new, current.cost
        if current.cost > previous_cost * (1 - 1e-6):
            break
    return current


def solve_overlap(problem: Problem, *, whiten: Array | None = None) -> Solution:
    """Fit the coefficients and g, starting from three values of g."""
    solutions = [solve(problem, overlap, free=True, whiten=whiten) for overlap in (1.2, 2.5, 6.0)]
    return min(solutions, key=lambda solution: solution.cost)


def solve_form(form: Form, problem: Problem, whiten: Array | None = None) -> tuple[Array, float]:
    """Fit the coefficients of a form, and g if the form does not define it. Returns both."""
    if form.overlap is None:
        solution = solve_overlap(problem, whiten=whiten)
        return solution.theta, solution.overlap
    if form.relative:
        return relative_fit(problem), form.overlap
    return solve(problem, form.overlap, whiten=whiten).theta, form.overlap


def relative_fit(problem: Problem) -> Array:
    """Fit non-negative coefficients [k] of a plain sum (g = 1), minimizing the squared relative error."""
    relative = problem.terms.values / np.exp(problem.log_s)[:, None]
    return nonnegative(relative, np.ones(len(relative)))


def identifiable(form: Form, data: Measurements) -> bool:
    """Whether the points determine the form's coefficients, with at least one measurement more than coefficients."""
    problem = Problem.of(form, data)
    # It is enough to test g = 1: terms that are collinear without overlap are collinear with it.
    return len(data) > len(form.names) and separation(problem.linear(relative_fit(problem), 1.0)[1]) > SEPARABLE


def profile_intervals(
    problem: Problem, theta: Array, overlap: float, *, whiten: Array | None = None
) -> list[tuple[float, float]]:
    """Compute 95 % intervals by profile likelihood for the k coefficients and, last, for g.

    If exchange is hidden behind compute, a step time is only an upper bound for the exchange. A linearization at the
    estimate does not show this. Therefore each coefficient is varied, and all others are fitted again, until the error
    is significantly larger (F test; Seber & Wild 2003, Sec. 5.4).
    """
    n, k = len(problem.log_s), len(theta) + 1

    def cost(g: float, *, free: bool, fixed: tuple[int, float] | None = None) -> float:
        # At theta, the derivative with respect to a hidden exchange is 0: the second search starts from a plain sum.
        starts = [(g, theta), (2.0 if free else g, None)]
        return min(
            solve(problem, initial, free=free, fixed=fixed, start=start, whiten=whiten).cost
            for initial, start in starts
        )

    # A compute time has the same noise as the step that contains it, so it does not count as another measurement.
    limit = cost(overlap, free=True) * (1 + float(stats.f.ppf(LEVEL, 1, max(n - k, 1))) / max(n - k, 1))
    pairs = [
        sign_changes(
            lambda value, index=index: cost(overlap, free=True, fixed=(index, value)) - limit,
            float(theta[index]),
            _largest(problem, index),
        )
        for index in range(k - 1)
    ]
    low, high = (
        end if cost(end, free=False) <= limit else sign_change(lambda g: cost(g, free=False) - limit, overlap, end)
        for end in OVERLAPS
    )
    return [*pairs, (low, high)]


def _largest(problem: Problem, index: int) -> float:
    """Return the value of a coefficient with which its term alone is as large as the longest step time."""
    values = problem.terms.values[:, index]
    return float(np.exp(problem.log_s.max()) / np.max(values))
