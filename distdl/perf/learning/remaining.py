"""How many steps are left until a target: predicted while the run goes on, from what it has shown so far."""

import math

import numpy as np

from distdl.perf.learning.curves import SHAPES, Shape, solve
from distdl.perf.speed.fit import spread
from distdl.perf.speed.measurements import Array

BINS = 64
"""Means of consecutive values that the curves are fitted to; where they are full, neighbours are joined."""
FEWEST = 8
GROWTH = 1.25
"""The curves are fitted anew when there is this much more to fit them to."""
DRAWS = 200
AS_GOOD = 2.0
"""A curve whose forecast errors are within this factor of the best one's is believed as well."""


class Remaining:
    """Steps left until the loss, or the accuracy, meets a target, with a 95 % interval.

    Three curves are fitted: Optimus' hyperbola, a power law, an exponential decay; of accuracy, to the share of errors.
    Each is judged by how it forecasts the last quarter of what is known from the first three. The middle is the best
    one's; the interval holds others about as good too, for which curve is right is most of what is unknown.

        remaining = Remaining(0.92, of="accuracy")
        remaining.update(step, accuracy)
        remaining.remaining()   # (low, middle, high) steps; high is inf where the target may never be met
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
        self._seen = self._fitted_at = 0
        self._ends: tuple[float, float, float] | None = None

    def update(self, step: int, value: float, *, lr: float | None = None) -> None:
        """Take in the loss or accuracy after a step.

        Args:
            lr: learning rate, where known: when it drops, the curve so far says nothing of what comes, and is let go.
        """
        if lr is not None and self._rate is not None and lr <= 0.6 * self._rate:
            self._begin(self._now)
        self._rate, self._now = lr, step
        value = 1 - value if self._accuracy else value
        if not math.isfinite(value):
            return
        self._seen += 1
        self._bins = np.vstack([self._bins, (step, value, 1)])
        if len(self._bins) > BINS:
            self._join()

    def _join(self) -> None:
        """Join the two neighbours that lie closest on a scale of ratios: a falling curve bends most at its start."""
        steps = self._bins[:, 0] - self._first + 1
        at = int(np.argmin(steps[1:] / steps[:-1] * (1 + 1e-3 * self._bins[1:, 2] / self._seen)))
        pair = self._bins[at : at + 2]
        count = pair[:, 2].sum()
        self._bins[at] = (*(pair[:, :2] * pair[:, 2:]).sum(0) / count, count)
        self._bins = np.delete(self._bins, at + 1, 0)

    def remaining(self) -> tuple[float, float, float] | None:
        """(low, middle, high) steps from now until the target; None where too little is known yet."""
        if len(self._bins) < FEWEST:
            return None
        if self._seen >= GROWTH * self._fitted_at:
            self._ends, self._fitted_at = self._fit(), self._seen
        if self._ends is None:
            return None
        low, middle, high = (max(0.0, end - self._now) for end in self._ends)
        return low, middle, high

    def _fit(self) -> tuple[float, float, float] | None:
        """Steps at which the target is met: low, middle, high."""
        values, weight = np.maximum(self._bins[:, 1], 1e-9), np.sqrt(self._bins[:, 2])
        scale = values.max()
        k, values, target = self._bins[:, 0] - self._first, values / scale, self._target / scale
        if target <= 0:
            return None
        early = np.cumsum(self._bins[:, 2]) < 0.75 * self._seen
        before = {shape.name: solve(shape, k[early], values[early], weight=weight[early]) for shape in SHAPES}
        errors = {
            shape.name: _forecast(shape, before[shape.name], k[~early], values[~early], weight[~early])
            for shape in SHAPES
        }
        best = min(errors.values())
        draws, earlier, middle = [], [], math.inf
        for shape in SHAPES:
            if errors[shape.name] > AS_GOOD * best:
                continue
            theta = solve(shape, k, values, start=before[shape.name], weight=weight)
            draws.append(shape.steps_to(_draws(shape, theta, k, values, weight), target))
            earlier.append(float(shape.steps_to(before[shape.name], target)))
            if errors[shape.name] == best:
                middle = float(shape.steps_to(theta, target))
        low, high = np.quantile(np.concatenate(draws), (0.025, 0.975), method="inverted_cdf")
        # What the same curves said a quarter ago belongs to what they may still change their mind to.
        low, high = min(float(low), middle, *earlier), max(float(high), middle, *earlier)
        return low + self._first, middle + self._first, high + self._first


def _forecast(shape: Shape, theta: Array, k: Array, values: Array, weight: Array) -> float:
    """Root mean square relative error of values that `theta` was not fitted to."""
    return float(np.sqrt(np.mean((weight * (shape.value(theta, k) / values - 1)) ** 2)))


def _draws(shape: Shape, theta: Array, k: Array, values: Array, weight: Array) -> Array:
    """[DRAWS, 3] coefficients that the values allow."""
    value = shape.value(theta, k)
    covariance = spread(shape.slope(theta, k) * (weight / value)[:, None], weight * np.log(values / value))
    draws = np.random.default_rng(0).multivariate_normal(theta, covariance, DRAWS, method="svd")
    for index in np.flatnonzero((draws < 0).any(0)):
        # What comes out negative is 0, and the others are then what they are likely to be with it at 0.
        below = np.minimum(draws[:, index], 0)
        draws = draws - np.outer(below / max(covariance[index, index], 1e-300), covariance[index])
    return np.maximum(draws, 0)
