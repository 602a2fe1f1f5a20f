"""A form of the step time fitted to measurements: coefficients, errors and predictions, with their intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg, stats

from distdl.perf.speed import kriging
from distdl.perf.speed.fit import (
    Form,
    Problem,
    Solution,
    folds,
    intervals,
    profile_intervals,
    relative_fit,
    solve,
    solve_overlap,
)
from distdl.perf.speed.kriging import Kernel
from distdl.perf.speed.measurements import COLUMNS, Array, Measurements


@dataclass(frozen=True, kw_only=True)
class SpeedFit:
    """A form fitted to measurements: predicts the step time of other configurations, with an interval."""

    requested: str
    form: Form
    data: Measurements
    theta: Array
    """[k] seconds a unit of each term."""
    overlap: float = 1.0
    kernel: Kernel = kriging.NONE
    known: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Physical values the coefficients were drawn to: (seconds, weight beside one measurement)."""
    held_out: Array = field(default_factory=lambda: np.zeros(0))
    """[n] relative errors of each time, predicted by a fit to the other configurations."""
    warnings: tuple[str, ...] = ()

    @cached_property
    def _problem(self) -> Problem:
        return Problem.of(self.form, self.data, self.known)

    @cached_property
    def _whiten(self) -> Array:
        return _whitening(self.kernel, self.data, self._problem)

    @cached_property
    def _at(self) -> Solution:
        """Whitened errors and slopes at the fit."""
        return Solution.of(self._problem, self.theta, 1 / self.overlap, self._whiten)

    @cached_property
    def _slope(self) -> Array:
        """[n, k] whitened slopes in all that is fitted: 1 / gamma last, where it is."""
        return self._at.slope if self.form.overlap is None else self._at.slope[:, :-1]

    @property
    def coefficients(self) -> dict[str, float]:
        """Seconds a unit by term; `gamma` where overlap is fitted."""
        values = dict(zip(self.form.names, self.theta.tolist(), strict=True))
        return values | ({"gamma": float(self.overlap)} if self.form.overlap is None else {})

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % interval by coefficient: by bootstrap, or by profile likelihood where overlap is fitted."""
        if self.form.overlap is None:
            whiten = None if self.kernel == kriging.NONE else self._whiten
            pairs = profile_intervals(self._problem, self.theta, self.overlap, whiten=whiten)
            return {name: (float(a), float(b)) for name, (a, b) in zip([*self.form.names, "gamma"], pairs, strict=True)}
        low, high = intervals(self._slope, self._at.error, self.theta)
        return {name: (float(a), float(b)) for name, a, b in zip(self.form.names, low, high, strict=True)}

    @property
    def residuals(self) -> Array:
        """[n] fitted over measured step time, less 1."""
        return self._problem.terms.time(self.theta, self.overlap) / self.data.step_s * np.exp(self._left(self.data)) - 1

    @property
    def mape(self) -> float:
        """Mean absolute relative error of the fitted times; 0.05 is 5 %."""
        return float(np.abs(self.residuals).mean())

    @property
    def held_out_mape(self) -> float:
        """Mean absolute relative error of times whose configuration was left out of the fit."""
        return float(np.abs(self.held_out).mean())

    def _left(self, at: Measurements) -> Array:
        """[m] what the kernel adds to log times at points."""
        n = len(self.data)
        error = self._problem.log_s - np.log(self._problem.terms.time(self.theta, self.overlap))
        white = self._whiten[:n, :n] @ error
        return self.kernel(self.form.kind, at.points, self.data.points) @ (self._whiten[:n, :n].T @ white)

    def predict(self, points: Array) -> tuple[Array, Array, Array]:
        """Step time at points [m, 3]: seconds [m], and the 95 % interval [m], [m] where one measurement would lie."""
        at = replace(self.data, points=points, step_s=np.ones(len(points)), sync_s=None)
        terms = self.form.at(points)
        time = np.maximum(terms.time(self.theta, self.overlap), np.finfo(float).tiny)
        mid = time * np.exp(self._left(at))
        error = self._at.error
        spare = max(len(error) - len(self.theta), 1)
        # The noise that was seen, steadied by what is expected of it: three spare residuals can be small by chance.
        noise = np.sqrt((error @ error + kriging.WORTH * kriging.NOISE**2) / (spare + kriging.WORTH))
        wide = stats.t.ppf(0.975, spare + kriging.WORTH) * noise * np.sqrt(1 + self.variance(points))
        return mid, mid * np.exp(-wide), mid * np.exp(wide)

    def variance(self, points: Array) -> Array:
        """[m] variance of the predicted log times, in units of the noise's variance (universal kriging)."""
        return np.diag(self.covariance(points, points))

    def covariance(self, a: Array, b: Array) -> Array:
        """[m, l] covariance of the predicted log times at points a and b, in units of the noise's variance."""
        slope, n = self._slope, len(self.data)
        inverse = linalg.pinvh(slope.T @ slope)
        (shade_a, rest_a), (shade_b, rest_b) = self._reach(a, slope, n), self._reach(b, slope, n)
        return self.kernel(self.form.kind, a, b) - shade_a @ shade_b.T + rest_a @ inverse @ rest_b.T

    def _reach(self, points: Array, slope: Array, n: int) -> tuple[Array, Array]:
        """Whitened covariance [m, n] of points with the data, and slopes [m, k] that the data do not account for."""
        terms = self.form.at(points)
        time = np.maximum(terms.time(self.theta, self.overlap), np.finfo(float).tiny)
        own = terms.jacobian(self.theta, self.overlap) / time[:, None]
        if self.form.overlap is None:
            own = np.column_stack([own, terms.overlap_slope(self.theta, self.overlap)])
        shade = self.kernel(self.form.kind, points, self.data.points) @ self._whiten[:n, :n].T
        return shade, own - shade @ slope[:n]

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `distdl fit speed --json` prints, and that `distdl predict speed` reads."""
        return {
            "form": self.requested,
            "coefficients": self.coefficients,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "mape": self.mape,
            "held_out_mape": self.held_out_mape,
            "residuals": self.residuals.tolist(),
            "held_out_residuals": self.held_out.tolist(),
            "warnings": list(self.warnings),
            "model": {
                "kind": self.form.kind,
                "compute": list(self.form.compute),
                "exchange": list(self.form.exchange),
                "steps": self.form.name,
                "overlap": self.overlap,
                "overlap_fitted": self.form.overlap is None,
                "kernel": {"smooth": self.kernel.smooth, "reach": self.kernel.reach, "level": self.kernel.level},
                "known": {name: list(pair) for name, pair in self.known.items()},
            },
            "columns": list(COLUMNS[self.form.kind]),
            "points": self.data.points.tolist(),
            "step_s": self.data.step_s.tolist(),
            "sync_s": None if self.data.sync_s is None else self.data.sync_s.tolist(),
        }


def fitted(
    requested: str,
    form: Form,
    data: Measurements,
    known: Mapping[str, tuple[float, float]],
    warnings: tuple[str, ...] = (),
    kernel: Kernel = kriging.NONE,
) -> SpeedFit:
    """Fit one form as it is, whether or not the data tell its terms apart."""
    problem = Problem.of(form, data, known)
    whiten = None if kernel == kriging.NONE else _whitening(kernel, data, problem)
    if form.overlap is None:
        found = solve_overlap(problem, whiten=whiten)
        theta, overlap = found.theta, found.overlap
    else:
        overlap = form.overlap
        theta = relative_fit(problem) if form.relative else solve(problem, overlap, whiten=whiten).theta
    return SpeedFit(
        requested=requested,
        form=form,
        data=data,
        theta=theta,
        overlap=overlap,
        kernel=kernel,
        known=known,
        warnings=warnings,
    )


def _whitening(kernel: Kernel, data: Measurements, problem: Problem) -> Array:
    """[n, n] inverse Cholesky factor of the log errors' covariance; compute measured alone has noise alone."""
    n, alone = len(data), len(problem.log_alone_s)
    if kernel == kriging.NONE:
        return np.eye(n + alone)
    factor = kernel.factor(data.kind, data.points)
    return linalg.block_diag(linalg.solve_triangular(factor, np.eye(n), lower=True), np.eye(alone))


def leave_out(fit: SpeedFit, most: int = 100) -> SpeedFit:
    """The fit with its leave-one-configuration-out errors: all but the choice of form and kernel is fitted anew."""
    errors = np.empty(len(fit.data))
    for left in folds(fit.data, most):
        data, problem = fit.data.take(~left), fit._problem.take(~left)
        whiten = None if fit.kernel == kriging.NONE else _whitening(fit.kernel, data, problem)
        if fit.form.relative:
            theta, overlap = relative_fit(problem), fit.overlap
        else:
            free = fit.form.overlap is None
            found = solve(problem, fit.overlap, free=free, start=fit.theta, whiten=whiten)
            theta, overlap = found.theta, found.overlap
        other = replace(fit, data=data, theta=theta, overlap=overlap)
        time = fit._problem.terms.take(left).time(theta, overlap)
        if fit.kernel != kriging.NONE:
            time = time * np.exp(other._left(fit.data.take(left)))
        errors[left] = time / fit.data.step_s[left] - 1
    return replace(fit, held_out=errors)
