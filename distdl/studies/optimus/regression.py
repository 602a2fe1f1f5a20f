"""How b0, b1, b2 follow from depth and device: regression, a network's foretold curve, and steps to a target.

The networks are of two families: those with 6n + 2 layers and 16 to 64 channels (He et al. 2015, section 4.2) and
ImageNet's, four stages of 64 to 512. A family of its own explains a coefficient where both are among the curves.
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
left next to zero is zero, and its logarithm is anything."""


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
    """Of a residual network, by its depth: "6n + 2" or "imagenet"; 50 layers, which both have, are ImageNet's."""
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
    """How often chance alone would make devices differ as much (F test); nan with one device."""
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
    columns |= {f"family {one}": np.array([float(family(n) == one) for n in networks]) for one in families[1:]}
    columns |= {f"device {one}": np.array([float(device == one) for device in devices]) for one in kinds[1:]}
    return np.stack(list(columns.values()), 1), tuple(columns)


def regress(fitted: Sequence[Fitted]) -> list[Regression]:
    """A regression for each of b0, b1, b2; none where curves are too few to leave one to spare."""
    networks, devices = [one.curve.network for one in fitted], [one.curve.device for one in fitted]
    families, kinds = sorted({family(network) for network in networks}), sorted(set(devices))
    matrix, terms = design(networks, devices, families, kinds)
    if np.linalg.matrix_rank(matrix) < len(terms) or len(fitted) <= len(terms):
        return []
    found = []
    for index, name in enumerate(NAMES):
        values = np.array([one.coefficients[index] for one in fitted])
        # b2 is added to the loss as it is; b0 and b1 scale it.
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
        found.append(
            Regression(
                name=name,
                log=log,
                terms=terms,
                weights=weights,
                errors=errors,
                spare=spare,
                r_squared=1 - float(errors @ errors) / total if total else 1.0,
                device_p=p,
                inverse=np.linalg.inv(matrix.T @ matrix),
            )
        )
    return found


def _least(matrix: Array, y: Array) -> tuple[Array, Array]:
    weights = np.linalg.lstsq(matrix, y, rcond=None)[0]
    return weights, y - matrix @ weights


def foretell(regressions: Sequence[Regression], fitted: Sequence[Fitted], network: str, device: str) -> Array:
    """[DRAWS + 1, 3] b0, b1, b2 of a network that was not trained: the regressions' own first, then draws.

    The draws are of what one more curve may have, from the residuals of all three together: where one coefficient was
    too high the others were too.
    """
    families = sorted({family(one.curve.network) for one in fitted})
    row = design([network], [device], families, sorted({one.curve.device for one in fitted}))[0][0]
    middle = np.array([row @ one.weights for one in regressions])
    errors, spare = np.stack([one.errors for one in regressions], 1), regressions[0].spare
    wide = 1 + row @ regressions[0].inverse @ row
    dice = np.random.default_rng(0)
    normal = dice.multivariate_normal(np.zeros(3), errors.T @ errors / spare * wide, DRAWS, method="eigh")
    draws = middle + normal / np.sqrt(dice.chisquare(spare, DRAWS) / spare)[:, None]
    found = np.vstack([middle, draws])
    logs = np.array([one.log for one in regressions])
    # A drawn floor may be below zero: held at zero, it would not make up for the b0 and b1 that were drawn with it.
    floor = np.where(np.array(NAMES) == "b2", -np.inf, 0.0)
    found = np.where(logs, np.exp(np.clip(found, -300, 300)), np.maximum(found, floor))
    found[0] = np.maximum(found[0], 0.0)
    return found


def values(coefficients: Array, steps: Array) -> Array:
    """[m, n] losses of curves [m, 3] at steps [n]."""
    b0, b1, b2 = (coefficients[:, index, None] for index in range(3))
    return 1 / np.maximum(b0 * steps + b1, 1e-12) + b2


def binned(curve: Curve, most: int = 60) -> tuple[Array, Array]:
    """Steps and losses of a curve as means of at most `most` groups in a row: single batches scatter."""
    parts = np.array_split(np.arange(len(curve.steps)), min(most, len(curve.steps)))
    return tuple(np.array([values[part].mean() for part in parts]) for values in (curve.steps, curve.losses))


def reached(curve: Curve, target: float) -> float | None:
    """Step at which the accuracy first is there, on a line between two evaluations; None where it never was."""
    before: tuple[float, float] | None = None
    for step, accuracy in curve.accuracy:
        if accuracy >= target:
            if before is None:
                return step
            return before[0] + (step - before[0]) * (target - before[1]) / (accuracy - before[1])
        before = step, accuracy
    return None


def target_losses(fitted: Sequence[Fitted], target: float) -> list[float]:
    """Training loss, by each curve's phases, at the step where it reached the target accuracy."""
    steps = [(one, reached(one.curve, target)) for one in fitted]
    return [float(one.fit(np.array([step]))[0]) for one, step in steps if step is not None]


def steps_to(coefficients: Array, losses: Array) -> Array:
    """[m] steps at which curves [m, 3] come down to losses [m]; inf where they never do."""
    return np.maximum(HYPERBOLA.steps_to(coefficients, losses), 0.0)
