"""Predict the speed of placements that were not measured, from a fit."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from distdl.core.errors import UserError
from distdl.core.userfiles import read_text
from distdl.perf.arrays import Array
from distdl.perf.speed.placements import COLUMNS, Placements
from distdl.perf.speed.speed_fit import SpeedFit, from_dict


@dataclass(frozen=True, kw_only=True)
class SpeedPrediction:
    """Predicted speed at one placement, with the 95 % prediction interval of a measurement."""

    point: dict[str, int]
    """Value by column: servers, workers, batch_size; or nodes, replicas, local_batch_size."""
    step_s: float
    low_s: float
    high_s: float
    steps_per_s: float
    images_per_s: float
    outside: bool
    """Whether the placement is outside the measured range, so that this is an extrapolation."""

    def as_dict(self) -> dict[str, object]:
        """Return the values for JSON."""
        values = asdict(self)
        return values.pop("point") | values


def load(file: Path) -> SpeedFit:
    """Read a fit that `distdl fit speed --json` printed.

    Raises:
        UserError: the file is not such a fit, or was edited.
    """
    text = read_text(file)
    if not text.strip():
        raise UserError(f"{file} is empty: the fit was refused; see the message of distdl fit speed --json")
    try:
        saved = json.loads(text)
        fit = from_dict(saved)
        computed = [*fit.residuals, fit.mape, fit.held_out_mape]
        recorded = [*saved["residuals"], saved["mape"], saved["held_out_mape"]]
        is_consistent = np.allclose(computed, np.array(recorded, float), rtol=1e-6, atol=1e-9)
        mid, low, high = fit.predict(fit.data.placements)
    except Exception as error:  # a damaged value can raise any exception
        why = f" ({error.args[0]} is missing)" if isinstance(error, KeyError) else ""
        raise UserError(
            f"{file} is not a fit written by distdl{why}: distdl fit speed MEASUREMENTS --json > FIT.json writes one"
        ) from None
    is_ordered = (low <= mid).all() and (mid <= high).all() and (mid > 0).all() and np.isfinite(mid).all()
    if not is_consistent or not is_ordered:
        raise UserError(f"{file} was damaged or edited: its coefficients and residuals do not match; fit again")
    return fit


def predict_speed(fit: SpeedFit, counts: Sequence[Sequence[int]], batches: Sequence[int]) -> list[SpeedPrediction]:
    """Predict the speed of every combination of counts and batches that can run.

    Args:
        counts: (servers, workers) or (nodes, replicas), each a sequence.
        batches: global batch sizes under a parameter server; batch sizes per replica under all-reduce.
    Raises:
        UserError: none of the combinations can run.
    """
    grid = fit.data.placements.at(np.array(list(product(*counts, batches)), float))
    grid = grid.take(grid.is_feasible)
    if not len(grid):
        why = "as many replicas as nodes" if grid.kind == "replicas" else "one sample of the global batch per worker"
        raise UserError(f"none of these configurations can run: there must be at least {why}")
    intervals = zip(*fit.predict(grid), images_per_step(fit, grid), grid.is_within(fit.data.placements), strict=True)
    return [
        SpeedPrediction(
            point=dict(zip(COLUMNS[grid.kind], map(int, point), strict=True)),
            step_s=float(step_s),
            low_s=float(low_s),
            high_s=float(high_s),
            steps_per_s=float(1 / step_s),
            images_per_s=float(images / step_s),
            outside=not bool(is_within),
        )
        for point, (step_s, low_s, high_s, images, is_within) in zip(grid.points, intervals, strict=True)
    ]


def images_per_step(fit: SpeedFit, at: Placements) -> Array:
    """Return the images per step, [m]; for an asynchronous update, one worker's share of the global batch."""
    if at.kind == "replicas":
        return at.local_batch * at.replicas
    return at.batch * (1 / at.workers) if fit.form.name.endswith("async") else at.batch
