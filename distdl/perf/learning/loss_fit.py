"""Fit loss curves: Optimus' hyperbola, and one curve per phase if drops of the learning rate require several.

As in Optimus (Peng et al., EuroSys 2018), losses are divided by the largest, an outlier is replaced by the mean of its
neighbors, and l(k) = 1 / (b0 k + b1) + b2 is fitted by non-negative least squares. The coefficients are converted back
to the unit of the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.arrays import Array, Mask
from distdl.perf.learning.curves import HYPERBOLA, SHAPES, Shape, solve
from distdl.perf.regression import bootstrap_intervals, coefficient_covariance, decorrelated

OUTLIER = 5.0
"""A loss is an outlier if it deviates from the mean of its neighbors by this many times the usual deviation."""
FEWEST = 8
"""Minimum number of losses in a phase."""
GAIN = 0.9
"""An additional phase must reduce the held-out error to this fraction."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One curve, fitted to the losses between two changes of the loss's behavior."""

    shape: Shape
    first: float
    """First step; the shape counts steps from here."""
    last: float
    coefficients: Array
    """[3] in the unit of the loss and in steps."""
    intervals: Array
    """[3, 2] 95 % confidence intervals."""
    covariance: Array
    """[3, 3] covariance of the coefficients."""
    held_out_mape: float
    """Mean absolute relative error in cross-validation: blocks of losses, each predicted by a fit to the others."""

    def __call__(self, steps: Array) -> Array:
        """Predict the loss [n] at `steps` [n]."""
        return self.shape.value(self.coefficients, np.asarray(steps, float) - self.first)

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        names = self.shape.names
        return {
            "form": self.shape.name,
            "first_step": self.first,
            "last_step": self.last,
            "coefficients": dict(zip(names, self.coefficients.tolist(), strict=True)),
            "intervals": dict(zip(names, self.intervals.tolist(), strict=True)),
            "held_out_mape": self.held_out_mape,
        }


@dataclass(frozen=True, kw_only=True)
class LossFit:
    """Optimus' single hyperbola, and the phases that describe the same curve better if it has several."""

    steps: Array
    losses: Array
    """[n] measured losses, outliers replaced."""
    outliers: int
    """Number of replaced losses."""
    optimus: Phase
    phases: tuple[Phase, ...]
    warnings: tuple[str, ...] = ()

    def __call__(self, steps: Array) -> Array:
        """Predict the loss at `steps` by the phases; the last phase is extrapolated."""
        steps = np.atleast_1d(np.asarray(steps, float))
        number = np.searchsorted([phase.first for phase in self.phases[1:]], steps, side="right")
        value = np.empty_like(steps)
        for index, phase in enumerate(self.phases):
            value[number == index] = phase(steps[number == index])
        return value

    @property
    def residuals(self) -> Array:
        """[n] relative errors of the fit: fitted / measured - 1."""
        return self(self.steps) / self.losses - 1

    @property
    def held_out_mape(self) -> float:
        """Cross-validation error of the phases, weighted by their numbers of losses."""
        counts = [((self.steps >= phase.first) & (self.steps <= phase.last)).sum() for phase in self.phases]
        return float(np.average([phase.held_out_mape for phase in self.phases], weights=counts))

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `distdl fit loss --json` prints."""
        single = self.optimus.as_dict()
        return {
            "form": "hyperbola" if len(self.phases) == 1 and self.phases[0].shape is HYPERBOLA else "phases",
            "coefficients": single["coefficients"],
            "intervals": single["intervals"],
            "mape": float(np.abs(self.residuals).mean()),
            "held_out_mape": self.held_out_mape,
            "optimus_mape": float(np.abs(self.optimus(self.steps) / self.losses - 1).mean()),
            "optimus_held_out_mape": single["held_out_mape"],
            "phases": [phase.as_dict() for phase in self.phases],
            "outliers": self.outliers,
            "residuals": self.residuals.tolist(),
            "warnings": list(self.warnings),
        }


def fit_loss(steps: Array, losses: Array, *, drops: Sequence[float] | None = None) -> LossFit:
    """Fit Optimus' hyperbola, and phases if they predict held-out losses better.

    Args:
        steps: [n] increasing.
        losses: [n] positive.
        drops: steps at which the learning rate dropped, if known; otherwise changes are detected.
    Raises:
        UserError: there are too few losses.
    """
    steps, raw = np.asarray(steps, float), np.asarray(losses, float)
    if len(steps) < FEWEST:
        raise UserError(
            f"{len(steps)} losses are too few to fit three coefficients and their intervals: use at least {FEWEST}"
        )
    cleaned, outliers = replace_outliers(raw)
    optimus = fit_phase(HYPERBOLA, steps, cleaned, first=0.0)
    phases = [best_phase(steps, cleaned, first=0.0)]
    cuts = _known_cuts(steps, drops) if drops is not None else _detected_cuts(steps, cleaned)
    if cuts:
        parts = np.split(np.arange(len(steps)), cuts)
        phases = [best_phase(steps[p], cleaned[p], first=0.0 if p[0] == 0 else float(steps[p[0]])) for p in parts]
    warnings = []
    if optimus.coefficients[0] <= 0:
        warnings.append("the loss does not decrease: b0 is 0, so a hyperbola cannot predict when a target is reached")
    fit = LossFit(
        steps=steps, losses=cleaned, outliers=outliers, optimus=optimus, phases=tuple(phases), warnings=tuple(warnings)
    )
    if len(phases) > 1:
        note = f"the curve has {len(phases)} phases; b0, b1 and b2 are those of a single hyperbola for the whole curve"
        fit = replace(fit, warnings=(*fit.warnings, note))
    return fit


def replace_outliers(losses: Array) -> tuple[Array, int]:
    """Replace each outlier among losses [n] by the mean of its neighbors. Also returns the number of replacements."""
    mean = (losses[:-2] + losses[2:]) / 2
    deviation = np.abs(losses[1:-1] - mean) / np.maximum(mean, 1e-300)
    usual = 1.4826 * np.median(deviation)  # standard deviation of normal noise with this median
    candidates = np.flatnonzero(deviation > max(OUTLIER * usual, 0.05)) + 1
    # The neighbors of an outlier deviate as well; the outlier is the one with the largest deviation of the three.
    size = np.concatenate([[0.0], deviation, [0.0]])
    outliers = [
        i
        for i in candidates
        if size[i] >= size[i - 1 : i + 2].max() and (losses[i] - losses[i - 1]) * (losses[i] - losses[i + 1]) > 0
    ]
    cleaned = losses.copy()
    cleaned[outliers] = mean[np.array(outliers, int) - 1]
    return cleaned, len(outliers)


def fit_phase(shape: Shape, steps: Array, losses: Array, *, first: float) -> Phase:
    """Fit one shape to losses [n] of a phase that starts at step `first`, with intervals and cross-validation error."""
    k, scale = steps - first, float(losses.max())
    theta = solve(shape, k, losses / scale)
    low, high, covariance = _uncertainty(shape, theta, k, losses / scale)
    errors = np.concatenate([_held_out(shape, k, losses / scale, theta, fold) for fold in _folds(len(k))])
    units = _units(shape, scale)
    return Phase(
        shape=shape,
        first=first,
        last=float(steps[-1]),
        coefficients=theta * units,
        intervals=np.stack([low * units, high * units], 1),
        covariance=covariance * np.outer(units, units),
        held_out_mape=float(np.abs(errors).mean()),
    )


def best_phase(steps: Array, losses: Array, *, first: float) -> Phase:
    """Fit the shape that predicts held-out losses best."""
    phases = [fit_phase(shape, steps, losses, first=first) for shape in SHAPES]
    return min(phases, key=lambda phase: phase.held_out_mape)


def _units(shape: Shape, scale: float) -> Array:
    """Return factors [3] that convert the coefficients for scaled losses to those for losses."""
    return np.array([1 / scale, 1 / scale, scale]) if shape is HYPERBOLA else np.array([scale, 1.0, scale])


def _uncertainty(shape: Shape, theta: Array, k: Array, losses: Array) -> tuple[Array, Array, Array]:
    """Return the bounds of the 95 % intervals, [3] each, and the covariance [3, 3]."""
    value = shape.value(theta, k)
    slope, error = decorrelated(shape.slope(theta, k) / value[:, None], np.log(losses / value))
    low, high = bootstrap_intervals(slope, error, theta)
    return low, high, coefficient_covariance(slope, error)


def _folds(n: int) -> list[Mask]:
    """Return five masks [n] of contiguous blocks, so that held-out losses are not predicted by adjacent ones."""
    length = max(1, n // 25)
    number = np.arange(n) // length % 5
    return [number == fold for fold in range(5) if (number == fold).any()]


def _held_out(shape: Shape, k: Array, losses: Array, start: Array, fold: Mask) -> Array:
    """Return the relative errors of a fold, predicted by a fit to the other losses."""
    theta = solve(shape, k[~fold], losses[~fold], start=start)
    return shape.value(theta, k[fold]) / losses[fold] - 1


def _known_cuts(steps: Array, drops: Sequence[float]) -> list[int]:
    cuts: list[int] = []
    for drop in sorted(drops):
        cut = int(np.searchsorted(steps, drop, side="right"))
        if cut - (cuts[-1] if cuts else 0) >= FEWEST and len(steps) - cut >= FEWEST:
            cuts.append(cut)
    return cuts


def _detected_cuts(steps: Array, losses: Array, most: int = 6) -> list[int]:
    """Detect changes of the curve.

    Greedy search: add the cut that reduces the squared error most, as long as the cross-validation error decreases.
    """
    subset = np.unique(np.linspace(0, len(steps) - 1, 250).astype(int))
    k, loss = steps[subset], losses[subset] / losses.max()
    cuts: list[int] = []
    error = best_phase(k, loss, first=0.0).held_out_mape
    while len(cuts) < most - 1:
        cut = _best_cut(k, loss, cuts)
        if cut is None:
            break
        trial = sorted([*cuts, cut])
        parts = np.split(np.arange(len(k)), trial)
        phases = [best_phase(k[p], loss[p], first=0.0 if p[0] == 0 else float(k[p[0]])) for p in parts]
        trial_error = float(np.average([phase.held_out_mape for phase in phases], weights=[len(p) for p in parts]))
        if trial_error > GAIN * error:
            break
        cuts, error = trial, trial_error
    return [_largest_decrease(losses, int(subset[cut - 1]) + 1, int(subset[cut])) for cut in cuts]


def _largest_decrease(loss: Array, low: int, high: int) -> int:
    """Return the index from `low` to `high` at which the loss decreases most from the previous one."""
    decreases = loss[low - 1 : high] / loss[low : high + 1]
    return low + int(np.argmax(decreases))


def _best_cut(k: Array, loss: Array, cuts: Sequence[int]) -> int | None:
    """Return the index at which an additional cut reduces the squared error most; None if no part is long enough."""
    best, best_gain = None, 0.0
    for low, high in pairwise([0, *cuts, len(k)]):
        uncut = _cost(k, loss, low, high)
        step = max(1, (high - low) // 16)
        coarse = range(low + FEWEST, high - FEWEST + 1, step)
        gains = {cut: uncut - _cost(k, loss, low, cut) - _cost(k, loss, cut, high) for cut in coarse}
        if not gains:
            continue
        center = max(gains, key=lambda cut: gains[cut])
        for cut in range(max(low + FEWEST, center - step + 1), min(high - FEWEST, center + step - 1) + 1):
            gains.setdefault(cut, uncut - _cost(k, loss, low, cut) - _cost(k, loss, cut, high))
        cut = max(gains, key=lambda cut: gains[cut])
        if gains[cut] > best_gain:
            best, best_gain = cut, gains[cut]
    return best


def _cost(k: Array, loss: Array, low: int, high: int) -> float:
    """Return the squared log error of a hyperbola fitted to the losses from index `low` to `high`."""
    first = 0.0 if low == 0 else float(k[low])
    part, value = k[low:high] - first, loss[low:high]
    theta = solve(HYPERBOLA, part, value)
    return float((np.log(np.maximum(HYPERBOLA.value(theta, part), 1e-12) / value) ** 2).sum())
