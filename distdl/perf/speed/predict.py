"""What a fitted speed says of configurations that were not measured."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from distdl.core.errors import UserError, reason
from distdl.core.userfiles import read_text
from distdl.perf.speed import SpeedFit, from_dict
from distdl.perf.speed.measurements import Array


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Speed at one configuration, with the 95 % interval in which a measurement would lie."""

    point: dict[str, float]
    """By column: servers, workers, batch_size; or nodes, replicas, local_batch_size."""
    step_s: float
    low_s: float
    high_s: float
    steps_per_s: float
    images_per_s: float
    outside: bool
    """The point is outside the range of what was measured: extrapolated."""

    def as_dict(self) -> dict[str, object]:
        rest = asdict(self)
        return rest.pop("point") | rest


def load(file: Path) -> SpeedFit:
    """A fit that `distdl fit speed --json` printed.

    Raises:
        UserError: the file is not one.
    """
    text = read_text(file)
    if not text.strip():
        raise UserError(f"{file} is empty: the fit was refused; see what distdl fit speed --json says")
    try:
        saved = json.loads(text)
        fit = from_dict(saved)
        computed = [*fit.residuals, fit.mape, fit.held_out_mape]
        recorded = [*saved["residuals"], saved["mape"], saved["held_out_mape"]]
        same = np.allclose(computed, np.array(recorded, float), rtol=1e-6, atol=1e-9)
        mid, low, high = fit.predict(fit.data.points)
    except Exception as error:  # whatever a damaged value leads to
        raise UserError(f"{file} is not what distdl fit speed --json prints: {reason(error)}") from None
    if not same or not (np.isfinite(mid).all() and (low <= mid).all() and (mid <= high).all() and (mid > 0).all()):
        raise UserError(f"{file} was damaged or edited: its coefficients do not give its residuals; fit again")
    return fit


def predict_speed(fit: SpeedFit, counts: Sequence[Sequence[int]], batches: Sequence[int]) -> list[Prediction]:
    """Speed at every combination of counts and batches that can be run.

    Args:
        counts: (servers, workers) or (nodes, replicas).
        batches: global batches under a parameter server; batches a replica under all-reduce.
    """
    rows = np.array(list(product(*counts, batches)), float)
    reduce = fit.data.kind == "replicas"
    rows = rows[rows[:, 1] >= rows[:, 0]] if reduce else rows[rows[:, 2] >= rows[:, 1]]
    if not len(rows):
        why = "as many replicas as nodes" if reduce else "one sample of the global batch for each worker"
        raise UserError(f"none of these configurations can run: there must be at least {why}")
    mid, low, high = fit.predict(rows)
    images = rows[:, 2] * (rows[:, 1] if reduce else per_update(fit, rows))
    inside = within(fit.data.points, rows)
    return [
        Prediction(
            point={name: int(value) for name, value in zip(columns(fit), row, strict=True)},
            step_s=float(t),
            low_s=float(a),
            high_s=float(b),
            steps_per_s=float(1 / t),
            images_per_s=float(count / t),
            outside=not bool(known),
        )
        for row, t, a, b, count, known in zip(rows, mid, low, high, images, inside, strict=True)
    ]


def columns(fit: SpeedFit) -> tuple[str, str, str]:
    """Names of a point's three numbers."""
    from distdl.perf.speed.measurements import COLUMNS

    return COLUMNS[fit.data.kind]


def per_update(fit: SpeedFit, rows: Array) -> Array:
    """Share [n] of the global batch that one update takes: all of it; asynchronous, one worker's."""
    return 1 / rows[:, 1] if fit.form.name.endswith("async") else np.ones(len(rows))


def within(points: Array, rows: Array) -> Array:
    """[m] whether rows [m, 3] lie in the box that the measured points [n, 3] span."""
    return ((rows >= points.min(0)) & (rows <= points.max(0))).all(1)
