"""A form of the step time fitted to measurements: coefficients, and predictions with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, stats

from distdl.perf.arrays import Array
from distdl.perf.regression import TINY, bootstrap_intervals
from distdl.perf.speed import forms, kriging
from distdl.perf.speed.form import Form
from distdl.perf.speed.kriging import Interpolation, Kernel
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import COLUMNS, Placements
from distdl.perf.speed.solver import Known, Problem, Solution, profile_intervals, solve_form


class Interval(NamedTuple):
    """Predicted step times [m] in seconds, and the 95 % prediction interval of a measurement."""

    step_s: Array
    low_s: Array
    high_s: Array


class Noise(NamedTuple):
    """Noise of one log step time."""

    deviation: float
    """Standard deviation."""
    degrees: int
    """Degrees of freedom of the estimate."""


@dataclass(frozen=True, kw_only=True)
class SpeedFit:
    """A form fitted to measurements. `fit_form` creates it, `from_dict` reads a saved one."""

    requested: str
    """Name of the form that the user requested."""
    form: Form
    data: Measurements
    theta: Array
    """[k] seconds per unit of each term."""
    overlap: float
    known: Known
    """Physical values towards which the coefficients were regularized."""
    slope: Array
    """[n, k'] derivative of the whitened log times with respect to the fitted values; 1 / gamma is last, if fitted."""
    covariance: Array
    """[k', k'] covariance of the fitted values, in units of the noise variance."""
    noise: Noise
    interpolation: Interpolation
    held_out: Array = field(default_factory=lambda: np.zeros(0))
    """[n] relative error of each step time in cross-validation, predicted by a fit to the other placements."""
    warnings: tuple[str, ...] = ()

    @property
    def kernel(self) -> Kernel:
        """Kernel of the interpolated residuals."""
        return self.interpolation.kernel

    @property
    def coefficients(self) -> dict[str, float]:
        """Seconds per unit by term; also `gamma` if overlap is fitted."""
        values = dict(zip(self.form.names, self.theta.tolist(), strict=True))
        return values | ({"gamma": float(self.overlap)} if self.form.overlap is None else {})

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % interval by coefficient: by bootstrap, or by profile likelihood if overlap is fitted."""
        problem = Problem.of(self.form, self.data, self.known)
        whiten = self.kernel.whitening(self.data.placements, len(problem.log_compute_s))
        if self.form.overlap is None:
            pairs = profile_intervals(problem, self.theta, self.overlap, whiten=whiten)
            return dict(zip([*self.form.names, "gamma"], pairs, strict=True))
        error = Solution.of(problem, self.theta, 1 / self.overlap, whiten).error
        low, high = bootstrap_intervals(self.slope, error, self.theta)
        return dict(zip(self.form.names, zip(low.tolist(), high.tolist(), strict=True), strict=True))

    @cached_property
    def residuals(self) -> Array:
        """[n] relative errors of the fit: fitted / measured step time - 1."""
        return self._step_s(self.data.placements) / self.data.step_s - 1

    @property
    def mape(self) -> float:
        """Mean absolute relative error of the fitted times; 0.05 is 5 %."""
        return float(np.abs(self.residuals).mean())

    @property
    def held_out_mape(self) -> float:
        """Mean absolute relative error in cross-validation over placements."""
        return float(np.abs(self.held_out).mean())

    def predict(self, at: Placements) -> Interval:
        """Predict step times at m placements, with 95 % prediction intervals."""
        step_s = self._step_s(at)
        width = stats.t.ppf(0.975, self.noise.degrees) * self.noise.deviation * np.sqrt(1 + self.variance(at))
        return Interval(step_s, step_s * np.exp(-width), step_s * np.exp(width))

    def variance(self, at: Placements) -> Array:
        """Return the variance of the predicted log times, [m], in units of the noise variance (universal kriging)."""
        return np.diag(self.prediction_covariance(at, at))

    def prediction_covariance(self, a: Placements, b: Placements) -> Array:
        """Return the covariance of predicted log times at placements a and b, [m, l], over the noise variance."""
        (cross_a, residual_a), (cross_b, residual_b) = self._project(a), self._project(b)
        return self.kernel(a, b) - cross_a @ cross_b.T + residual_a @ self.covariance @ residual_b.T

    def _step_s(self, at: Placements) -> Array:
        return self._form_s(at) * np.exp(self.interpolation.correction(at))

    def _form_s(self, at: Placements) -> Array:
        return np.maximum(self.form.at(at).time(self.theta, self.overlap), TINY)

    def _project(self, at: Placements) -> tuple[Array, Array]:
        """Return the whitened covariance [m, n] with the data, and the residual slopes [m, k'] after projection."""
        terms = self.form.at(at)
        slope = terms.jacobian(self.theta, self.overlap) / self._form_s(at)[:, None]
        if self.form.overlap is None:
            slope = np.column_stack([slope, terms.overlap_gradient(self.theta, self.overlap)])
        cross_covariance = self.interpolation.cross_covariance(at)
        return cross_covariance, slope - cross_covariance @ self.slope[: len(self.data)]

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `distdl fit speed --json` prints and `distdl predict speed` reads."""
        kernel = self.kernel
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
                "kernel": {
                    "smooth": kernel.smooth_deviation,
                    "reach": kernel.length_scale,
                    "level": kernel.level_deviation,
                },
                "known": {name: list(pair) for name, pair in self.known.items()},
            },
            "columns": list(COLUMNS[self.form.kind]),
            "points": self.data.points.tolist(),
            "step_s": self.data.step_s.tolist(),
            "sync_s": None if self.data.sync_s is None else self.data.sync_s.tolist(),
        }


def fit_form(
    form: Form,
    data: Measurements,
    *,
    requested: str = "",
    known: Known | None = None,
    kernel: Kernel = kriging.NONE,
    warnings: tuple[str, ...] = (),
) -> SpeedFit:
    """Fit one form, even if the data do not identify its coefficients."""
    problem = Problem.of(form, data, known)
    theta, overlap = solve_form(form, problem, kernel.whitening(data.placements, len(problem.log_compute_s)))
    fit = at_coefficients(form, data, theta, overlap, known=known, kernel=kernel)
    return replace(fit, requested=requested or form.name, warnings=warnings)


def at_coefficients(
    form: Form,
    data: Measurements,
    theta: Array,
    overlap: float,
    *,
    known: Known | None = None,
    kernel: Kernel = kriging.NONE,
) -> SpeedFit:
    """Return a fit with given coefficients; covariance and noise are computed from the data."""
    known = known or {}
    problem = Problem.of(form, data, known)
    solution = Solution.of(problem, theta, 1 / overlap, kernel.whitening(data.placements, len(problem.log_compute_s)))
    slope = solution.slope if form.overlap is None else solution.slope[:, :-1]
    degrees = max(len(solution.error) - len(theta), 1)
    # The observed noise is combined with the prior, since a few residuals can be small by chance.
    prior = kriging.PRIOR_DEGREES * kriging.PRIOR_NOISE**2
    deviation = np.sqrt((solution.error @ solution.error + prior) / (degrees + kriging.PRIOR_DEGREES))
    log_error = problem.log_s - np.log(problem.terms.time(theta, overlap))
    return SpeedFit(
        requested=form.name,
        form=form,
        data=data,
        theta=theta,
        overlap=overlap,
        known=known,
        slope=slope,
        covariance=np.asarray(linalg.pinvh(slope.T @ slope)),
        noise=Noise(float(deviation), degrees + kriging.PRIOR_DEGREES),
        interpolation=Interpolation.of(kernel, data.placements, log_error),
    )


def from_dict(saved: Mapping[str, Any]) -> SpeedFit:
    """Rebuild a fit from the result of `SpeedFit.as_dict`.

    Raises:
        KeyError, StopIteration, TypeError, ValueError: it is not such a dictionary.
    """
    model, kernel = saved["model"], saved["model"]["kernel"]
    form = forms.find(model["steps"], model["compute"], model["exchange"])
    form = replace(
        form,
        exchange={name: term for name, term in form.exchange.items() if name in model["exchange"]},
        overlap=None if model["overlap_fitted"] else float(model["overlap"]),
    )
    data = Measurements(
        placements=Placements(kind=form.kind, points=np.array(saved["points"], float)),
        step_s=np.array(saved["step_s"], float),
        sync_s=None if saved["sync_s"] is None else np.array(saved["sync_s"], float),
    )
    fit = at_coefficients(
        form,
        data,
        np.array([saved["coefficients"][name] for name in form.names]),
        float(model["overlap"]),
        known={name: (value, weight) for name, (value, weight) in model["known"].items()},
        kernel=Kernel(smooth_deviation=kernel["smooth"], length_scale=kernel["reach"], level_deviation=kernel["level"]),
    )
    return replace(
        fit,
        requested=forms.RENAMED.get(saved["form"], saved["form"]),
        held_out=np.array(saved["held_out_residuals"]),
        warnings=tuple(saved["warnings"]),
    )
