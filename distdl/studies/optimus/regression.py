"""Regression of b0, b1, b2 on depth and device, the predicted curve of a network, and steps to a target.

The networks are of two families: those with 6n + 2 layers and 16 to 64 channels (He et al. 2015, section 4.2) and
ImageNet's, four stages of 64 to 512. If both are among the curves, the family explains part of a coefficient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from distdl.perf.learning.curves import HYPERBOLA
from distdl.perf.learning.loss_fit import LossFit
from distdl.perf.regression import Array
from distdl.studies.optimus.logs import Curve, depth

NAMES = HYPERBOLA.names
DRAWS = 2000
LEAST = 0.01
"""Share of b0's or b1's largest value that all others must exceed for its logarithm to be regressed: one that a fit
left next to zero is zero, and its logarithm is arbitrary."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A training and its loss model."""

    curve: Curve
    fit: LossFit

    @property
    def coefficients(self) -> Array:
        """[3] b0, b1, b2."""
        return self.fit.optimus.coefficients


def family(network: str) -> str:
    """Family of a residual network, by its depth: "6n + 2" or "imagenet" (also for 50 layers, which fit both)."""
    layers = depth(network)
    return "6n + 2" if layers % 6 == 2 and network != "resnet50" else "imagenet"


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One coefficient as a linear function of log depth, family and device; the logarithm of b0 and b1."""

    name: str
    log: bool
    terms: tuple[str, ...]
    weights: Array
    """[k] by term."""
    errors: Array
    """[n] residuals."""
    spare: int
    """Curves beyond the terms."""
    r_squared: float
    device_p: float
    """p-value of the F test that devices do not differ; nan with one device."""
    inverse: Array
    """[k, k] of the normal equations."""


def design(
    networks: Sequence[str], devices: Sequence[str], families: Sequence[str], kinds: Sequence[str]
) -> tuple[Array, tuple[str, ...]]:
    """[n, k] columns and their names: 1, log depth, a family and a device each but the first.

    Args:
        networks, devices: [n] of the rows.
        families, kinds: all families and device types among the curves that are regressed.
    """
    columns = {"1": np.ones(len(networks)), "log depth": np.log([depth(network) for network in networks])}
    columns |= {f"family {each}": np.array([float(family(n) == each) for n in networks]) for each in families[1:]}
    columns |= {f"device {each}": np.array([float(device == each) for device in devices]) for each in kinds[1:]}
    return np.stack(list(columns.values()), 1), tuple(columns)


def regress(fitted: Sequence[Fitted]) -> list[Regression]:
    """A regression for each of b0, b1, b2; none if there are no more curves than terms."""
    networks, devices = [each.curve.network for each in fitted], [each.curve.device for each in fitted]
    families, kinds = sorted({family(network) for network in networks}), sorted(set(devices))
    matrix, terms = design(networks, devices, families, kinds)
    if np.linalg.matrix_rank(matrix) < len(terms) or len(fitted) <= len(terms):
        return []
    regressions = []
    for index, name in enumerate(NAMES):
        values = np.array([each.coefficients[index] for each in fitted])
        # b2 is added to the loss; b0 and b1 scale it.
        log = name != "b2" and bool((values > LEAST * values.max()).all())
        y = np.log(values) if log else values
        weights, errors = _least(matrix, y)
        spare = len(fitted) - len(terms)
        p = np.nan
        if len(kinds) > 1:
            _, without = _least(matrix[:, : len(terms) - len(kinds) + 1], y)
            gain = (without @ without - errors @ errors) / (len(kinds) - 1)
            p = float(stats.f.sf(gain / max(errors @ errors / spare, 1e-300), len(kinds) - 1, spare))
        total = float(((y - y.mean()) ** 2).sum())
        regressions.append(
            Regression(
                name=name,
                log=log,
                terms=terms,
                weights=weights,
                errors=errors,
                spare=spare,
                r_squared=1 - float(errors @ errors) / total if total else 1.0,
                device_p=p,
                inverse=np.asarray(np.linalg.inv(matrix.T @ matrix), float),
            )
        )
    return regressions


def _least(matrix: Array, y: Array) -> tuple[Array, Array]:
    weights = np.asarray(np.linalg.lstsq(matrix, y, rcond=None)[0], float)
    return weights, y - matrix @ weights


def predict(regressions: Sequence[Regression], fitted: Sequence[Fitted], network: str, device: str) -> Array:
    """Predict b0, b1, b2 [DRAWS + 1, 3] of a network that was not trained: the regression first, then draws.

    A draw is a curve of one more network, from the joint residuals of the three coefficients, which are correlated.
    """
    families = sorted({family(each.curve.network) for each in fitted})
    row = design([network], [device], families, sorted({each.curve.device for each in fitted}))[0][0]
    middle = np.array([row @ each.weights for each in regressions])
    errors, spare = np.stack([each.errors for each in regressions], 1), regressions[0].spare
    wide = 1 + row @ regressions[0].inverse @ row
    dice = np.random.default_rng(0)
    normal = dice.multivariate_normal(np.zeros(3), errors.T @ errors / spare * wide, DRAWS, method="eigh")
    draws = middle + normal / np.sqrt(dice.chisquare(spare, DRAWS) / spare)[:, None]
    predicted = np.vstack([middle, draws])
    logs = np.array([each.log for each in regressions])
    # A drawn floor may be negative: clipped, it would no longer match the b0 and b1 that were drawn with it.
    floor = np.where(np.array(NAMES) == "b2", -np.inf, 0.0)
    predicted = np.where(logs, np.exp(np.clip(predicted, -300, 300)), np.maximum(predicted, floor))
    predicted[0] = np.maximum(predicted[0], 0.0)
    return predicted


def values(coefficients: Array, steps: Array) -> Array:
    """[m, n] losses of curves [m, 3] at steps [n]."""
    b0, b1, b2 = (coefficients[:, index, None] for index in range(3))
    return 1 / np.maximum(b0 * steps + b1, 1e-12) + b2


def binned(curve: Curve, most: int = 60) -> tuple[Array, Array]:
    """Steps and losses of a curve as means of at most `most` groups in a row: single batches scatter."""
    parts = np.array_split(np.arange(len(curve.steps)), min(most, len(curve.steps)))
    steps, losses = (np.array([values[part].mean() for part in parts]) for values in (curve.steps, curve.losses))
    return steps, losses


def reached(curve: Curve, target: float) -> float | None:
    """Step at which the accuracy first reaches `target`, interpolated between evaluations; None if it never does."""
    previous: tuple[float, float] | None = None
    for step, accuracy in curve.accuracy:
        if accuracy >= target:
            if previous is None:
                return step
            return previous[0] + (step - previous[0]) * (target - previous[1]) / (accuracy - previous[1])
        previous = step, accuracy
    return None


def target_losses(fitted: Sequence[Fitted], target: float) -> list[float]:
    """Training loss, by each curve's phases, at the step where it reached the target accuracy."""
    steps = [(each, reached(each.curve, target)) for each in fitted]
    return [float(each.fit(np.array([step]))[0]) for each, step in steps if step is not None]


def steps_to(coefficients: Array, losses: Array) -> Array:
    """[m] steps at which curves [m, 3] reach losses [m]; inf if they never do."""
    return np.maximum(HYPERBOLA.steps_to(coefficients, losses), 0.0)
