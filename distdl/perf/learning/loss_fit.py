"""How the loss falls: Optimus' hyperbola, and a form for each phase where a drop of the learning rate makes one fail.

Optimus (Peng et al., EuroSys 2018): losses are divided by the largest, an outlier is replaced by the mean of its
neighbours, and l(k) = 1 / (b0 k + b1) + b2 is fitted by non-negative least squares. Its coefficients are given back in
the loss' own unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.learning.curves import HYPERBOLA, SHAPES, Shape, solve
from distdl.perf.speed.fit import independent, intervals, spread
from distdl.perf.speed.measurements import Array

OUTLIER = 5.0
"""Times the usual scatter that a loss must be away from its neighbours' mean to be replaced by it."""
FEWEST = 8
"""Losses that a phase has at least."""
GAIN = 0.9
"""Share of the held-out error to which one more phase must bring it."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One shape, fitted to the losses between two changes."""

    shape: Shape
    first: float
    """Step at which it begins; its curve counts steps from here."""
    last: float
    coefficients: Array
    """[3] in the loss' own unit and steps."""
    intervals: Array
    """[3, 2] 95 % intervals."""
    covariance: Array
    """[3, 3] of the coefficients."""
    held_out_mape: float
    """Mean absolute relative error of blocks of losses, each predicted by a fit to the others."""

    def __call__(self, steps: Array) -> Array:
        return self.shape.value(self.coefficients, np.asarray(steps, float) - self.first)

    def as_dict(self) -> dict[str, Any]:
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
    """Optimus' one hyperbola, and the phases that describe the same curve better where one does not do."""

    steps: Array
    losses: Array
    """[n] as measured, outliers replaced."""
    outliers: int
    optimus: Phase
    phases: tuple[Phase, ...]
    warnings: tuple[str, ...] = ()

    def __call__(self, steps: Array) -> Array:
        """Loss at steps by the phases; after the last measured step the last phase goes on."""
        steps = np.atleast_1d(np.asarray(steps, float))
        number = np.searchsorted([phase.first for phase in self.phases[1:]], steps, side="right")
        value = np.empty_like(steps)
        for index, phase in enumerate(self.phases):
            value[number == index] = phase(steps[number == index])
        return value

    @property
    def residuals(self) -> Array:
        """[n] fitted over measured loss, less 1."""
        return self(self.steps) / self.losses - 1

    @property
    def held_out_mape(self) -> float:
        """The phases' errors on losses left out, weighted by how many losses each has."""
        share = [((self.steps >= phase.first) & (self.steps <= phase.last)).sum() for phase in self.phases]
        return float(np.average([phase.held_out_mape for phase in self.phases], weights=share))

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `distdl fit loss --json` prints."""
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
    """Fit Optimus' hyperbola, and phases where they predict left-out losses better.

    Args:
        steps: [n] increasing; losses: [n] positive.
        drops: steps at which the learning rate fell, where known; without them, changes are looked for.
    Raises:
        UserError: too few losses, or none that falls.
    """
    steps, raw = np.asarray(steps, float), np.asarray(losses, float)
    if len(steps) < FEWEST:
        raise UserError(
            f"{len(steps)} losses are too few to fit three coefficients and their intervals: {FEWEST} or more"
        )
    cleaned, outliers = replace_outliers(raw)
    optimus = fit_phase(HYPERBOLA, steps, cleaned, first=0.0)
    phases = [best_phase(steps, cleaned, first=0.0)]
    cuts = _known_cuts(steps, drops) if drops is not None else _found_cuts(steps, cleaned)
    if cuts:
        parts = np.split(np.arange(len(steps)), cuts)
        phases = [best_phase(steps[p], cleaned[p], first=0.0 if p[0] == 0 else steps[p[0]]) for p in parts]
    warnings = []
    if optimus.coefficients[0] <= 0:
        warnings.append("the loss does not fall: b0 is 0, and one hyperbola says nothing of when a target is met")
    fit = LossFit(
        steps=steps, losses=cleaned, outliers=outliers, optimus=optimus, phases=tuple(phases), warnings=tuple(warnings)
    )
    if len(phases) > 1:
        note = f"the curve has {len(phases)} phases; b0, b1, b2 are those of one hyperbola through all of it"
        fit = replace(fit, warnings=(*fit.warnings, note))
    return fit


def replace_outliers(losses: Array) -> tuple[Array, int]:
    """Losses with each that is far from its neighbours' mean replaced by it, and how many were."""
    middle = (losses[:-2] + losses[2:]) / 2
    away = np.abs(losses[1:-1] - middle) / np.maximum(middle, 1e-300)
    usual = 1.4826 * np.median(away)
    far = np.flatnonzero(away > max(OUTLIER * usual, 0.05)) + 1
    # The neighbours of a wild value look wild too; it is the one that stands out most of the three that is wrong.
    size = np.concatenate([[0.0], away, [0.0]])
    worst = [
        i
        for i in far
        if size[i] >= size[i - 1 : i + 2].max() and (losses[i] - losses[i - 1]) * (losses[i] - losses[i + 1]) > 0
    ]
    cleaned = losses.copy()
    cleaned[worst] = middle[np.array(worst, int) - 1]
    return cleaned, len(worst)


def fit_phase(shape: Shape, steps: Array, losses: Array, *, first: float) -> Phase:
    """Fit one shape to losses from step `first` on, with intervals and held-out error."""
    k, scale = steps - first, float(losses.max())
    theta = solve(shape, k, losses / scale)
    low, high, covariance = _spread(shape, theta, k, losses / scale)
    held_out = np.concatenate([_left_out(shape, k, losses / scale, theta, left) for left in _blocks(len(k))])
    grow = _unscaled(shape, scale)
    return Phase(
        shape=shape,
        first=first,
        last=float(steps[-1]),
        coefficients=theta * grow,
        intervals=np.stack([low * grow, high * grow], 1),
        covariance=covariance * np.outer(grow, grow),
        held_out_mape=float(np.abs(held_out).mean()),
    )


def best_phase(steps: Array, losses: Array, *, first: float) -> Phase:
    """The shape that predicts left-out losses best."""
    return min((fit_phase(shape, steps, losses, first=first) for shape in SHAPES), key=lambda one: one.held_out_mape)


def _unscaled(shape: Shape, scale: float) -> Array:
    """[3] factors that bring coefficients of losses divided by `scale` back: 1 / l is linear in b0 and b1."""
    return np.array([1 / scale, 1 / scale, scale]) if shape is HYPERBOLA else np.array([scale, 1.0, scale])


def _spread(shape: Shape, theta: Array, k: Array, losses: Array) -> tuple[Array, Array, Array]:
    """95 % intervals [3], [3] and covariance [3, 3]."""
    value = shape.value(theta, k)
    slope, error = independent(shape.slope(theta, k) / value[:, None], np.log(losses / value))
    low, high = intervals(slope, error, theta)
    return low, high, spread(slope, error)


def _blocks(n: int) -> list[Array]:
    """Five masks [n] of consecutive runs of losses, so that what is left out is not told by its neighbours."""
    length = max(1, n // 25)
    number = np.arange(n) // length % 5
    return [number == one for one in range(5) if (number == one).any()]


def _left_out(shape: Shape, k: Array, losses: Array, start: Array, left: Array) -> Array:
    theta = solve(shape, k[~left], losses[~left], start=start)
    return shape.value(theta, k[left]) / losses[left] - 1


def _known_cuts(steps: Array, drops: Sequence[float]) -> list[int]:
    cuts: list[int] = []
    for drop in sorted(drops):
        cut = int(np.searchsorted(steps, drop, side="right"))
        if cut - (cuts[-1] if cuts else 0) >= FEWEST and len(steps) - cut >= FEWEST:
            cuts.append(cut)
    return cuts


def _found_cuts(steps: Array, losses: Array, most: int = 6) -> list[int]:
    """Where to cut: greedily where the squared error falls most, as long as the held-out error gains."""
    thin = np.unique(np.linspace(0, len(steps) - 1, 250).astype(int))
    k, loss = steps[thin], losses[thin] / losses.max()
    cuts: list[int] = []
    error = best_phase(k, loss, first=0.0).held_out_mape
    while len(cuts) < most - 1:
        found = _best_cut(k, loss, cuts)
        if found is None:
            break
        trial = sorted([*cuts, found])
        parts = np.split(np.arange(len(k)), trial)
        phases = [best_phase(k[p], loss[p], first=0.0 if p[0] == 0 else k[p[0]]) for p in parts]
        now = float(np.average([phase.held_out_mape for phase in phases], weights=[len(p) for p in parts]))
        if now > GAIN * error:
            break
        cuts, error = trial, now
    return [_exactly(losses, int(thin[cut - 1]) + 1, int(thin[cut])) for cut in cuts]


def _exactly(loss: Array, low: int, high: int) -> int:
    """Index from `low` to `high` before which the curve changes: the largest fall there."""
    falls = loss[low - 1 : high] / loss[low : high + 1]
    return low + int(np.argmax(falls))


def _best_cut(k: Array, loss: Array, cuts: Sequence[int]) -> int | None:
    """Index at which one more cut lowers the squared error of hyperbolas most; None where no part is long enough."""
    best, gain = None, 0.0
    edges = [0, *cuts, len(k)]
    for low, high in pairwise(edges):
        whole = _cost(k, loss, low, high)
        coarse = range(low + FEWEST, high - FEWEST + 1, max(1, (high - low) // 16))
        gains = {cut: whole - _cost(k, loss, low, cut) - _cost(k, loss, cut, high) for cut in coarse}
        if not gains:
            continue
        near = max(gains, key=lambda cut: gains[cut])
        step = max(1, (high - low) // 16)
        for cut in range(max(low + FEWEST, near - step + 1), min(high - FEWEST, near + step - 1) + 1):
            gains.setdefault(cut, whole - _cost(k, loss, low, cut) - _cost(k, loss, cut, high))
        cut = max(gains, key=lambda one: gains[one])
        if gains[cut] > gain:
            best, gain = cut, gains[cut]
    return best


def _cost(k: Array, loss: Array, low: int, high: int) -> float:
    first = 0.0 if low == 0 else k[low]
    part, value = k[low:high] - first, loss[low:high]
    theta = solve(HYPERBOLA, part, value)
    return float((np.log(np.maximum(HYPERBOLA.value(theta, part), 1e-12) / value) ** 2).sum())
