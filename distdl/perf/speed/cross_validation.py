"""Held-out errors of a form: each placement predicted by a fit to the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distdl.perf.arrays import Array, Mask
from distdl.perf.speed.kriging import Interpolation
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.solver import Problem, relative_fit, solve
from distdl.perf.speed.speed_fit import SpeedFit


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Relative errors [n] of held-out step times: predicted over measured, less 1."""

    relative: Array

    @property
    def mape(self) -> float:
        """Mean absolute relative error; 0.05 is 5 %."""
        return float(np.abs(self.relative).mean())

    def exceed(self, other: "Errors") -> bool:
        """Whether they are larger, point by point, by more than one standard error (Breiman et al. 1984)."""
        difference = np.abs(self.relative) - np.abs(other.relative)
        return bool(difference.mean() > difference.std() / np.sqrt(len(difference)))


def folds(data: Measurements, most: int = 100) -> list[Mask]:
    """Masks [n], each of one held-out placement; if there are more than `most` placements, `most` groups of them."""
    number = data.configurations
    if number.max() + 1 > most:
        shuffled = np.random.default_rng(0).permutation(number.max() + 1) % most
        number = shuffled[number]
    return [number == index for index in np.unique(number)]


def cross_validate(fit: SpeedFit, held_out: Sequence[Mask]) -> Errors:
    """Errors of each fold, predicted by the fit's form and kernel fitted to the rest, starting from its coefficients.

    Args:
        held_out: masks that cover each measurement once, as from `folds`.
    """
    problem = Problem.of(fit.form, fit.data, fit.known)
    errors = np.empty(len(fit.data))
    for fold in held_out:
        errors[fold] = _predict(fit, problem, fold) / fit.data.step_s[fold] - 1
    return Errors(relative=errors)


def _predict(fit: SpeedFit, problem: Problem, fold: Mask) -> Array:
    """Step times of a fold, predicted by a fit to the rest."""
    rest, kept_terms = fit.data.take(~fold), problem.take(~fold)
    if fit.form.relative:
        theta, overlap = relative_fit(kept_terms), fit.overlap
    else:
        whiten = fit.kernel.whitening(rest.placements, len(kept_terms.log_compute_s))
        free = fit.form.overlap is None
        solution = solve(kept_terms, fit.overlap, free=free, start=fit.theta, whiten=whiten)
        theta, overlap = solution.theta, solution.overlap
    log_error = kept_terms.log_s - np.log(kept_terms.terms.time(theta, overlap))
    correction = Interpolation.of(fit.kernel, rest.placements, log_error).correction(fit.data.placements.take(fold))
    return problem.terms.take(fold).time(theta, overlap) * np.exp(correction)
