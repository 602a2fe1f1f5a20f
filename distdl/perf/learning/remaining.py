"""Predict during a run how many steps remain until a target, from its losses or accuracies so far."""

import math

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.learning.curves import SHAPES, Shape, solve
from distdl.perf.regression import coefficient_covariance

BINS = 64
"""Number of bins, each the mean of consecutive values, that the curves are fitted to; if full, neighbours merge."""
FEWEST = 8
GROWTH = 1.25
"""The curves are fitted again when the number of values has grown by this factor."""
DRAWS = 200
AS_GOOD = 2.0
"""A curve whose forecast error is within this factor of the best one's also contributes to the interval."""


class Remaining:
    """Steps until the loss, or the accuracy, reaches a target, with a 95 % interval.

    Three curves are fitted: Optimus' hyperbola, a power law, an exponential decay; for accuracy, to the error rate.
    Each is assessed by its forecast of the last quarter of the values from the first three. The middle is that of the
    best curve; the interval also covers those about as good, since the choice of the curve is most of the uncertainty.

        remaining = Remaining(0.92, of="accuracy")
        remaining.update(step, accuracy)
        remaining.remaining()   # (low, middle, high) steps; high is inf if the target may never be reached
    """

    def __init__(self, target: float, *, of: str = "loss") -> None:
        if of not in ("loss", "accuracy"):
            raise ValueError(f'of is "{of}"; known are loss and accuracy')
        self._accuracy = of == "accuracy"
        self._target = 1 - target if self._accuracy else target
        self._rate: float | None = None
        self._begin(0)

    def _begin(self, first: int) -> None:
        self._first = first
        self._bins = np.zeros((0, 3))  # mean step, mean value, how many
        self._count = self._fitted_count = 0
        self._ends: tuple[float, float, float] | None = None

    def update(self, step: int, value: float, *, lr: float | None = None) -> None:
        """Add the loss or accuracy after a step.

        Args:
            lr: learning rate, if known: when it drops, the curve so far no longer predicts the rest and is discarded.
        """
        if lr is not None and self._rate is not None and lr <= 0.6 * self._rate:
            self._begin(self._now)
        self._rate, self._now = lr, step
        value = 1 - value if self._accuracy else value
        if not math.isfinite(value):
            return
        self._count += 1
        self._bins = np.vstack([self._bins, (step, value, 1)])
        if len(self._bins) > BINS:
            self._merge()

    def _merge(self) -> None:
        """Merge the two adjacent bins with the smallest step ratio: a falling curve bends most at its start."""
        steps = self._bins[:, 0] - self._first + 1
        at = int(np.argmin(steps[1:] / steps[:-1] * (1 + 1e-3 * self._bins[1:, 2] / self._count)))
        pair = self._bins[at : at + 2]
        count = pair[:, 2].sum()
        self._bins[at] = (*(pair[:, :2] * pair[:, 2:]).sum(0) / count, count)
        self._bins = np.delete(self._bins, at + 1, 0)

    def remaining(self) -> tuple[float, float, float] | None:
        """(low, middle, high) steps from now until the target; None while there are too few values."""
        if len(self._bins) < FEWEST:
            return None
        if self._count >= GROWTH * self._fitted_count:
            self._ends, self._fitted_count = self._fit(), self._count
        if self._ends is None:
            return None
        low, middle, high = (max(0.0, end - self._now) for end in self._ends)
        return low, middle, high

    def _fit(self) -> tuple[float, float, float] | None:
        """Steps at which the target is reached: low, middle, high."""
        values, weight = np.maximum(self._bins[:, 1], 1e-9), np.sqrt(self._bins[:, 2])
        scale = values.max()
        k, values, target = self._bins[:, 0] - self._first, values / scale, self._target / scale
        if target <= 0:
            return None
        early = np.cumsum(self._bins[:, 2]) < 0.75 * self._count
        first_fits = {shape.name: solve(shape, k[early], values[early], weight=weight[early]) for shape in SHAPES}
        errors = {
            shape.name: _forecast(shape, first_fits[shape.name], k[~early], values[~early], weight[~early])
            for shape in SHAPES
        }
        best = min(errors.values())
        draws, earlier, middle = [], [], math.inf
        for shape in SHAPES:
            if errors[shape.name] > AS_GOOD * best:
                continue
            theta = solve(shape, k, values, start=first_fits[shape.name], weight=weight)
            draws.append(shape.steps_to(_draws(shape, theta, k, values, weight), target))
            earlier.append(float(shape.steps_to(first_fits[shape.name], target)))
            if errors[shape.name] == best:
                middle = float(shape.steps_to(theta, target))
        low, high = np.quantile(np.concatenate(draws), (0.025, 0.975), method="inverted_cdf")
        # The predictions of the same curves a quarter ago show how much theirs may still change.
        low, high = min(float(low), middle, *earlier), max(float(high), middle, *earlier)
        return low + self._first, middle + self._first, high + self._first


def _forecast(shape: Shape, theta: Array, k: Array, values: Array, weight: Array) -> float:
    """Root mean square relative error of values that `theta` was not fitted to."""
    return float(np.sqrt(np.mean((weight * (shape.value(theta, k) / values - 1)) ** 2)))


def _draws(shape: Shape, theta: Array, k: Array, values: Array, weight: Array) -> Array:
    """[DRAWS, 3] coefficients sampled from their distribution given the values."""
    value = shape.value(theta, k)
    covariance = coefficient_covariance(
        shape.slope(theta, k) * (weight / value)[:, None], weight * np.log(values / value)
    )
    draws = np.random.default_rng(0).multivariate_normal(theta, covariance, DRAWS, method="svd")
    for index in np.flatnonzero((draws < 0).any(0)):
        # A negative coefficient becomes 0, and the others are adjusted to their expected value given that.
        below = np.minimum(draws[:, index], 0)
        draws = draws - np.outer(below / max(covariance[index, index], 1e-300), covariance[index])
    return np.maximum(draws, 0)
