"""Regression of b0, b1, b2 on depth and device, the predicted curve of a network, and steps to a target.

There are two families of networks: those for CIFAR with 6n + 2 layers and 16 to 64 channels (He et al. 2015, section
4.2), and those for ImageNet with four stages of 64 to 512 channels. If both are among the curves, the family is a term
of the regression.
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
SMALLEST_SHARE = 0.01
"""The logarithm of b0 or b1 is regressed if all values exceed this share of the largest one: the logarithm of a value
that a fit left close to zero is arbitrary."""


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
    """[k] coefficient of each term."""
    errors: Array
    """[n] residuals."""
    degrees_of_freedom: int
    """Residual degrees of freedom: number of curves minus number of terms."""
    r_squared: float
    device_p: float
    """p-value of the F test of the hypothesis that devices do not differ; nan with one device."""
    inverse: Array
    """[k, k] inverse of the matrix of the normal equations."""


def design(
    networks: Sequence[str], devices: Sequence[str], families: Sequence[str], kinds: Sequence[str]
) -> tuple[Array, tuple[str, ...]]:
    """Return the design matrix [n, k] and the names of its columns: 1, log depth, and an indicator for each family and
    each device type except the first.

    Args:
        networks, devices: [n] names by row.
        families, kinds: all families and device types among the curves that are regressed.
    """
    columns = {"1": np.ones(len(networks)), "log depth": np.log([depth(network) for network in networks])}
    columns |= {f"family {each}": np.array([float(family(n) == each) for n in networks]) for each in families[1:]}
    columns |= {f"device {each}": np.array([float(device == each) for device in devices]) for each in kinds[1:]}
    return np.stack(list(columns.values()), 1), tuple(columns)


def regress(fitted: Sequence[Fitted]) -> list[Regression]:
    """Return a regression for each of b0, b1, b2, or none if there are too few curves for the terms."""
    networks, devices = [each.curve.network for each in fitted], [each.curve.device for each in fitted]
    families, kinds = sorted({family(network) for network in networks}), sorted(set(devices))
    matrix, terms = design(networks, devices, families, kinds)
    if np.linalg.matrix_rank(matrix) < len(terms) or len(fitted) <= len(terms):
        return []
    regressions = []
    for index, name in enumerate(NAMES):
        values = np.array([each.coefficients[index] for each in fitted])
        # b2 is added to the loss; b0 and b1 scale it.
        log = name != "b2" and bool((values > SMALLEST_SHARE * values.max()).all())
        y = np.log(values) if log else values
        weights, errors = _least_squares(matrix, y)
        degrees_of_freedom = len(fitted) - len(terms)
        p = np.nan
        if len(kinds) > 1:
            _, without = _least_squares(matrix[:, : len(terms) - len(kinds) + 1], y)
            gain = (without @ without - errors @ errors) / (len(kinds) - 1)
            p = float(
                stats.f.sf(gain / max(errors @ errors / degrees_of_freedom, 1e-300), len(kinds) - 1, degrees_of_freedom)
            )
        total = float(((y - y.mean()) ** 2).sum())
        regressions.append(
            Regression(
                name=name,
                log=log,
                terms=terms,
                weights=weights,
                errors=errors,
                degrees_of_freedom=degrees_of_freedom,
                r_squared=1 - float(errors @ errors) / total if total else 1.0,
                device_p=p,
                inverse=np.asarray(np.linalg.inv(matrix.T @ matrix), float),
            )
        )
    return regressions


def _least_squares(matrix: Array, y: Array) -> tuple[Array, Array]:
    weights = np.asarray(np.linalg.lstsq(matrix, y, rcond=None)[0], float)
    return weights, y - matrix @ weights


def predict(regressions: Sequence[Regression], fitted: Sequence[Fitted], network: str, device: str) -> Array:
    """Predict b0, b1, b2 of a network that was not trained.

    Returns:
        [DRAWS + 1, 3]: the estimate, followed by draws from the predictive distribution. Draws use the joint residuals
        of the three coefficients, which are correlated.
    """
    families = sorted({family(each.curve.network) for each in fitted})
    row = design([network], [device], families, sorted({each.curve.device for each in fitted}))[0][0]
    middle = np.array([row @ each.weights for each in regressions])
    errors, degrees_of_freedom = np.stack([each.errors for each in regressions], 1), regressions[0].degrees_of_freedom
    variance_factor = 1 + row @ regressions[0].inverse @ row
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal(
        np.zeros(3), errors.T @ errors / degrees_of_freedom * variance_factor, DRAWS, method="eigh"
    )
    draws = middle + normal / np.sqrt(rng.chisquare(degrees_of_freedom, DRAWS) / degrees_of_freedom)[:, None]
    predicted = np.vstack([middle, draws])
    logs = np.array([each.log for each in regressions])
    # A sampled floor may be negative: clipped, it would no longer match the b0 and b1 of the same draw.
    floor = np.where(np.array(NAMES) == "b2", -np.inf, 0.0)
    predicted = np.where(logs, np.exp(np.clip(predicted, -300, 300)), np.maximum(predicted, floor))
    predicted[0] = np.maximum(predicted[0], 0.0)
    return predicted


def values(coefficients: Array, steps: Array) -> Array:
    """Losses [m, n] of curves with coefficients [m, 3] at steps [n]."""
    b0, b1, b2 = (coefficients[:, index, None] for index in range(3))
    return 1 / np.maximum(b0 * steps + b1, 1e-12) + b2


def binned(curve: Curve, most: int = 60) -> tuple[Array, Array]:
    """Steps and losses of a curve as means over at most `most` consecutive groups, to reduce the noise of batches."""
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
    """Fitted training loss of each curve at the step at which it reached the target accuracy."""
    steps = [(each, reached(each.curve, target)) for each in fitted]
    return [float(each.fit(np.array([step]))[0]) for each, step in steps if step is not None]


def steps_to(coefficients: Array, losses: Array) -> Array:
    """Steps [m] at which curves with coefficients [m, 3] reach losses [m]; inf if they never do."""
    return np.maximum(HYPERBOLA.steps_to(coefficients, losses), 0.0)
