"""Select the placement to measure next."""

from collections.abc import Callable
from itertools import product

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.regression import separation
from distdl.perf.speed.form import Form
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements
from distdl.perf.speed.solver import SEPARABLE, Unidentifiable, identifiable
from distdl.perf.speed.speed_fit import SpeedFit


def candidates(data: Measurements) -> Placements:
    """Return placements to measure: counts up to the largest measured one, at least 4, at the measured batch sizes."""
    largest = np.maximum(data.points[:, :2].max(0), 4)
    counts = [sorted({1, *(2**k for k in range(1, 10) if 2**k <= top), int(top)}) for top in largest]
    batches = np.unique(data.points[:, 2])
    if data.kind == "replicas" and len(batches) == 1:
        # Separating the cost of a step from that of a sample needs two batch sizes per replica. With a parameter server
        # the batch size per worker already varies with the number of workers.
        batches = np.append(batches, 2 * batches[0])
    grid = data.placements.at(np.array(list(product(*counts, batches)), float))
    return grid.take(grid.is_feasible)


def next_point(
    fit: SpeedFit, among: Placements | None = None, targets: Placements | None = None
) -> tuple[Array, float]:
    """Select the placement whose measurement would reduce the variance of the predictions most.

    Args:
        fit: a fit to the measurements so far.
        among: placements that can be measured; by default `candidates`.
        targets: placements to be predicted; by default all of `among`.
    Returns:
        the point [3], and the fraction (0 to 1) by which it would reduce the mean variance of predicted log times.
    """
    among = candidates(fit.data) if among is None else among
    targets = among if targets is None else targets
    cross_covariance = fit.prediction_covariance(targets, among)
    gain = (cross_covariance**2 / (1 + fit.variance(among))).sum(0)
    best = int(np.argmax(gain))
    return among.points[best], float(gain[best] / np.maximum(fit.variance(targets).sum(), 1e-300))


def refuse(form: Form, data: Measurements) -> None:
    """Raise Unidentifiable, with points to add, if the data do not determine the form's coefficients."""
    if identifiable(form, data):
        return
    points = missing_points(form, data, least=1)
    count = len(np.unique(data.points, axis=0))
    listed = "; ".join(data.placements.name(point) for point in points)
    raise Unidentifiable(
        f"{count} {'configurations do' if count > 1 else 'configuration does'} not determine "
        f"{', '.join(form.names)} of {form.name}; "
        f"measure also: {listed}",
        points,
    )


def missing_points(form: Form, data: Measurements, *, least: int = 0) -> Array:
    """Select points [k, 3] to add so that the form becomes identifiable (greedy, D-optimal).

    Args:
        least: minimum number of points.
    """
    scale = np.exp(np.mean(np.log(data.step_s)))
    pool = candidates(data)
    length = np.sqrt((form.at(pool).values ** 2).sum(0))
    length = np.where(length > 0, length, 1.0)

    def rows(points: Array) -> Array:
        return form.at(pool.at(points)).values / length / scale

    measured, added = np.unique(data.points, axis=0), []
    while len(added) < 2 * len(form.names):
        points = np.vstack([measured, *added]) if added else measured
        enough = len(points) > len(form.names) and len(added) >= least
        if enough and separation(rows(points)) > 3 * SEPARABLE:
            break
        remaining = pool.points[~(pool.points[:, None] == points[None]).all(-1).any(1)]
        if not len(remaining):
            break
        added.append(_most_informative(rows, points, remaining)[None])
    return np.vstack(added) if added else np.zeros((0, 3))


def _most_informative(rows: Callable[[Array], Array], points: Array, pool: Array) -> Array:
    """Return the point of `pool` that increases log det of the information matrix most.

    A small ridge makes the matrix invertible.
    """
    measured = rows(points)
    information = measured.T @ measured
    information += 1e-9 * np.trace(information) * np.eye(len(information))
    new = rows(pool)
    gain = np.einsum("ij,jk,ik->i", new, np.linalg.inv(information), new)
    return pool[int(np.argmax(gain))]
