"""Predict during a run the number of remaining steps until a target, from the losses or accuracies so far."""

import math

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.learning.curves import SHAPES, Shape, solve
from distdl.perf.regression import coefficient_covariance

BINS = 64
"""Maximum number of bins to which the curves are fitted. A bin is the mean of consecutive values; bins are merged."""
FEWEST = 8
"""Minimum number of bins."""
GROWTH = 1.25
"""The curves are fitted again when the number of values has grown by this factor."""
RESAMPLES = 200
SIMILAR_ERROR = 2.0
"""Curves whose forecast error is within this factor of the smallest one contribute to the interval."""


class Remaining:
    """Predicts the steps until the loss or the accuracy reaches a target, with a 95 % interval.

    Three curves are fitted: Optimus' hyperbola, a power law and an exponential decay; for accuracy, to the error rate.
    Each is evaluated by its forecast of the last quarter of the values from the first three quarters. The prediction is
    that of the best curve. The interval includes those of curves with a similar error, because most of the uncertainty
    is in the choice of the curve.

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
        self._bins = np.zeros((0, 3))  # mean step, mean value, number of values
        self._count = self._fitted_count = 0
        self._ends: tuple[float, float, float] | None = None

    def update(self, step: int, value: float, *, lr: float | None = None) -> None:
        """Add the loss or accuracy after a step.

        Args:
            lr: learning rate, if known. When it drops, the values so far are discarded, since the curve changes.
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
        """Merge the two adjacent bins with the smallest step ratio, because the curve changes most at its start."""
        steps = self._bins[:, 0] - self._first + 1
        index = int(np.argmin(steps[1:] / steps[:-1] * (1 + 1e-3 * self._bins[1:, 2] / self._count)))
        pair = self._bins[index : index + 2]
        count = pair[:, 2].sum()
        self._bins[index] = (*(pair[:, :2] * pair[:, 2:]).sum(0) / count, count)
        self._bins = np.delete(self._bins, index + 1, 0)

    def remaining(self) -> tuple[float, float, float] | None:
        """Return (low, middle, high) steps from now until the target; None while there are too few values."""
        if len(self._bins) < FEWEST:
            return None
        if self._count >= GROWTH * self._fitted_count:
            self._ends, self._fitted_count = self._fit(), self._count
        if self._ends is None:
            return None
        low, middle, high = (max(0.0, end - self._now) for end in self._ends)
        return low, middle, high

    def _fit(self) -> tuple[float, float, float] | None:
        """Return the steps at which the target is reached: low, middle, high."""
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
            if errors[shape.name] > SIMILAR_ERROR * best:
                continue
            theta = solve(shape, k, values, start=first_fits[shape.name], weight=weight)
            draws.append(shape.steps_to(_resampled(shape, theta, k, values, weight), target))
            earlier.append(float(shape.steps_to(first_fits[shape.name], target)))
            if errors[shape.name] == best:
                middle = float(shape.steps_to(theta, target))
        low, high = np.quantile(np.concatenate(draws), (0.025, 0.975), method="inverted_cdf")
        # The predictions from the first three quarters of the values show how much a prediction may still change.
        low, high = min(float(low), middle, *earlier), max(float(high), middle, *earlier)
        return low + self._first, middle + self._first, high + self._first


def _forecast(shape: Shape, theta: Array, k: Array, values: Array, weight: Array) -> float:
    """Return the root mean square relative error of values to which `theta` was not fitted."""
    return float(np.sqrt(np.mean((weight * (shape.value(theta, k) / values - 1)) ** 2)))


def _resampled(shape: Shape, theta: Array, k: Array, values: Array, weight: Array) -> Array:
    """Sample coefficients [RESAMPLES, 3] from their distribution given the values."""
    value = shape.value(theta, k)
    covariance = coefficient_covariance(
        shape.slope(theta, k) * (weight / value)[:, None], weight * np.log(values / value)
    )
    draws = np.random.default_rng(0).multivariate_normal(theta, covariance, RESAMPLES, method="svd")
    for index in np.flatnonzero((draws < 0).any(0)):
        # A negative coefficient becomes 0, and the others become their conditional expectation.
        below = np.minimum(draws[:, index], 0)
        draws = draws - np.outer(below / max(covariance[index, index], 1e-300), covariance[index])
    return np.maximum(draws, 0)
