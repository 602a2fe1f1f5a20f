"""Cross-validation of a form: each placement is predicted by a fit to the others."""

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
    """Relative errors [n] of held-out step times: predicted / measured - 1."""

    relative: Array

    @property
    def mape(self) -> float:
        """Mean absolute relative error; 0.05 is 5 %."""
        return float(np.abs(self.relative).mean())

    def exceed(self, other: "Errors") -> bool:
        """Whether these errors are larger than those of `other` by more than one standard error (Breiman et al. 1984).

        The standard error is that of the mean difference of the absolute errors.
        """
        difference = np.abs(self.relative) - np.abs(other.relative)
        return bool(difference.mean() > difference.std() / np.sqrt(len(difference)))


def folds(data: Measurements, most: int = 100) -> list[Mask]:
    """Return masks [n], each of one held-out placement; with more than `most` placements, of `most` groups of them."""
    number = data.configurations
    if number.max() + 1 > most:
        shuffled = np.random.default_rng(0).permutation(number.max() + 1) % most
        number = shuffled[number]
    return [number == index for index in np.unique(number)]


def cross_validate(fit: SpeedFit, held_out: Sequence[Mask]) -> Errors:
    """Predict each fold by the fit's form and kernel fitted to the other folds, and return the errors.

    Args:
        held_out: masks [n] that cover each measurement once, as from `folds`.
    """
    problem = Problem.of(fit.form, fit.data, fit.known)
    errors = np.empty(len(fit.data))
    for fold in held_out:
        errors[fold] = _predict(fit, problem, fold) / fit.data.step_s[fold] - 1
    return Errors(relative=errors)


def _predict(fit: SpeedFit, problem: Problem, fold: Mask) -> Array:
    """Predict the step times of a fold by a fit to the other measurements."""
    training_data, training = fit.data.take(~fold), problem.take(~fold)
    if fit.form.relative:
        theta, overlap = relative_fit(training), fit.overlap
    else:
        whiten = fit.kernel.whitening(training_data.placements, len(training.log_compute_s))
        free = fit.form.overlap is None
        solution = solve(training, fit.overlap, free=free, start=fit.theta, whiten=whiten)
        theta, overlap = solution.theta, solution.overlap
    log_error = training.log_s - np.log(training.terms.time(theta, overlap))
    interpolation = Interpolation.of(fit.kernel, training_data.placements, log_error)
    correction = interpolation.correction(fit.data.placements.take(fold))
    return problem.terms.take(fold).time(theta, overlap) * np.exp(correction)
