"""Decreasing curves with three non-negative coefficients, fitted by least squares on relative error.

Optimus' hyperbola (Peng et al., EuroSys 2018, Eq. 1) is l(k) = 1 / (b0 k + b1) + b2 after k steps. For a given b2 it is
linear in 1 / (l - b2), and Optimus fits this linear form by non-negative least squares. That amplifies noise where the
curve is flat, so here the linear fit is only the start of a Gauss-Newton search, each step of which is a non-negative
least squares problem.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.regression import nonnegative


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decreasing curve with three non-negative coefficients, as a function of steps since the start of its phase."""

    name: str
    names: tuple[str, str, str]
    """Names of the coefficients."""
    value: Callable[[Array, Array], Array]
    """(coefficients [3], steps [n]) -> loss [n]."""
    slope: Callable[[Array, Array], Array]
    """(coefficients [3], steps [n]) -> derivatives [n, 3] with respect to the coefficients."""
    start: Callable[[Array, Array], list[Array]]
    """(steps [n], losses [n] of order 1) -> initial coefficients."""
    steps_to: Callable[[Array, Array | float], Array]
    """(coefficients [..., 3], loss) -> steps after which the curve reaches it; inf if it never does."""


def _hyperbola_starts(k: Array, loss: Array) -> list[Array]:
    starts = []
    for share in (0.0, 0.9):
        floor = share * loss.min()
        gap = np.maximum(loss - floor, 1e-9)
        # Delta method: an error e in l becomes an error of e / gap^2 in 1 / (l - b2).
        weight = gap**2 / loss
        line = nonnegative(np.stack([k, np.ones_like(k)], 1) * weight[:, None], weight / gap)
        starts.append(np.append(line, floor))
    return starts


def _hyperbola_slope(b: Array, k: Array) -> Array:
    slope = -1 / np.maximum(b[0] * k + b[1], 1e-12) ** 2
    return np.stack([slope * k, slope, np.ones_like(k)], 1)


def _hyperbola_steps(b: Array, loss: Array | float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = (1 / (loss - b[..., 2]) - b[..., 1]) / b[..., 0]
    return np.where(loss > b[..., 2], steps, np.inf)


def _power_slope(b: Array, k: Array) -> Array:
    base = (k + 1) ** -b[1]
    return np.stack([base, -b[0] * base * np.log(k + 1), np.ones_like(k)], 1)


def _power_starts(k: Array, loss: Array) -> list[Array]:
    starts = []
    for power in (0.2, 0.8):
        columns = np.stack([(k + 1) ** -power, np.ones_like(k)], 1)
        scale, floor = nonnegative(columns / loss[:, None], np.ones_like(loss))
        starts.append(np.array([scale, power, floor]))
    return starts


def _power_steps(b: Array, loss: Array | float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steps = (b[..., 0] / (loss - b[..., 2])) ** (1 / b[..., 1]) - 1
    return np.where(loss > b[..., 2], steps, np.inf)


def _decay_slope(b: Array, k: Array) -> Array:
    base = np.exp(-b[1] * k)
    return np.stack([base, -b[0] * base * k, np.ones_like(k)], 1)


def _decay_starts(k: Array, loss: Array) -> list[Array]:
    starts = []
    for rate in np.array([2.0, 12.0]) / max(float(k.max()), 1.0):
        columns = np.stack([np.exp(-rate * k), np.ones_like(k)], 1)
        scale, floor = nonnegative(columns / loss[:, None], np.ones_like(loss))
        starts.append(np.array([scale, rate, floor]))
    return starts


def _decay_steps(b: Array, loss: Array | float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(b[..., 0] / (loss - b[..., 2])) / b[..., 1]
    return np.where(loss > b[..., 2], steps, np.inf)


HYPERBOLA = Shape(
    name="hyperbola",
    names=("b0", "b1", "b2"),
    value=lambda b, k: 1 / np.maximum(b[0] * k + b[1], 1e-12) + b[2],
    slope=_hyperbola_slope,
    start=_hyperbola_starts,
    steps_to=_hyperbola_steps,
)
POWER = Shape(
    name="power",
    names=("scale", "power", "floor"),
    value=lambda b, k: b[0] * (k + 1) ** -b[1] + b[2],
    slope=_power_slope,
    start=_power_starts,
    steps_to=_power_steps,
)
DECAY = Shape(
    name="decay",
    names=("scale", "rate", "floor"),
    value=lambda b, k: b[0] * np.exp(-b[1] * k) + b[2],
    slope=_decay_slope,
    start=_decay_starts,
    steps_to=_decay_steps,
)
SHAPES = (HYPERBOLA, POWER, DECAY)


def solve(shape: Shape, k: Array, losses: Array, *, start: Array | None = None, weight: Array | float = 1.0) -> Array:
    """Fit non-negative coefficients [3] by least squares on relative error.

    Args:
        k: [n] steps.
        losses: [n] of order 1.
        start: [3] initial coefficients; by default those of the shape.
        weight: [n] weight of each relative error.
    """
    starts = shape.start(k, losses) if start is None else [start]
    weights = np.broadcast_to(np.asarray(weight, float), k.shape)
    return min((_descend(shape, k, losses, theta, weights) for theta in starts), key=lambda pair: pair[1])[0]


def _descend(shape: Shape, k: Array, losses: Array, theta: Array, weight: Array) -> tuple[Array, float]:
    """Run Gauss-Newton from `theta`. Returns the coefficients and their squared relative error."""

    def cost(coefficients: Array) -> float:
        value = shape.value(coefficients, k)
        return float(((weight * np.log(np.maximum(value, 1e-12) / losses)) ** 2).sum())

    lowest = cost(theta)
    for _ in range(60):
        value = np.maximum(shape.value(theta, k), 1e-12)
        slope = shape.slope(theta, k) / value[:, None]
        linear = np.clip(np.log(losses / value), -1, 1) + slope @ theta
        target = nonnegative(*_compact(weight[:, None] * slope, weight * linear))
        for damping in (1.0, 0.5, 0.2, 0.05, 0.01):
            new = theta + damping * (target - theta)
            if (new_cost := cost(new)) < lowest:
                break
        else:
            break
        theta, previous_cost, lowest = new, lowest, new_cost
        if lowest > previous_cost * (1 - 1e-7):
            break
    return theta, lowest


def _compact(matrix: Array, target: Array) -> tuple[Array, Array]:
    """Reduce a least squares problem to an equivalent one with as many rows as columns, by a QR decomposition."""
    if len(matrix) <= 64:
        return matrix, target
    q, r = np.linalg.qr(matrix)
    return r, q.T @ target
