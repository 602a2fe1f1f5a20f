"""Which configuration to measure next."""

from collections.abc import Callable
from itertools import product
from typing import Protocol

import numpy as np

from distdl.perf.speed.fit import SEPARABLE, Form, Unidentifiable, identifiable, separation
from distdl.perf.speed.measurements import Array, Measurements


class Predictor(Protocol):
    """What knows how sure it is: a `SpeedFit`."""

    data: Measurements

    def covariance(self, a: Array, b: Array) -> Array: ...


def candidates(data: Measurements) -> Array:
    """[c, 3] configurations to measure: counts up to the largest measured, at least 4, at the batches measured."""
    most = np.maximum(data.points[:, :2].max(0), 4)
    counts = [sorted({1, *(2**k for k in range(1, 10) if 2**k <= top), int(top)}) for top in most]
    batches = np.unique(data.points[:, 2])
    if data.kind == "servers":
        grid = np.array(list(product(*counts, batches)), float)
        return grid[grid[:, 2] >= grid[:, 1]]
    if len(batches) == 1:
        # A step's fixed cost and a sample's are told apart by two batches; a global batch is divided by the workers.
        batches = np.append(batches, 2 * batches[0])
    grid = np.array(list(product(*counts, batches)), float)
    return grid[grid[:, 1] >= grid[:, 0]]


def next_point(fit: Predictor, among: Array | None = None, targets: Array | None = None) -> tuple[Array, float]:
    """The configuration whose measurement would most reduce the variance of the predictions.

    Args:
        fit: a fit to what is measured so far.
        among: [c, 3] configurations that can be measured; without it `candidates`.
        targets: [m, 3] configurations that the predictions are for; without it, all of `among`.
    Returns:
        the point [3], and the share (0 to 1) of the mean predicted log variance over `targets` that it would remove.
    """
    among = candidates(fit.data) if among is None else among
    targets = among if targets is None else targets
    across = fit.covariance(targets, among)
    own = np.diag(fit.covariance(among, among))
    gain = (across**2 / (1 + own)).sum(0)
    best = int(np.argmax(gain))
    return among[best], float(gain[best] / np.maximum(np.diag(fit.covariance(targets, targets)).sum(), 1e-300))


def refuse(form: Form, data: Measurements) -> None:
    """Raise Unidentifiable, with points to add, where the data cannot tell the terms of a form apart."""
    if identifiable(form, data):
        return
    points = missing_points(form, data, least=1)
    have = len(np.unique(data.points, axis=0))
    add = "; ".join(data.name(point) for point in points)
    raise Unidentifiable(
        f"{have} configuration{'s' * (have > 1)} cannot tell {', '.join(form.names)} of {form.name} apart; "
        f"measure also: {add}",
        points,
    )


def missing_points(form: Form, data: Measurements, *, least: int = 0) -> Array:
    """[k, 3] fewest points, `least` or more, that added to the data tell the terms apart (greedy, D-optimal)."""
    scale = np.exp(np.mean(np.log(data.step_s)))
    pool = candidates(data)
    reach = np.sqrt((form.at(pool).values ** 2).sum(0))
    reach = np.where(reach > 0, reach, 1.0)

    def rows(points: Array) -> Array:
        return form.at(points).values / reach / scale

    have, added = np.unique(data.points, axis=0), []
    while len(added) < 2 * len(form.names):
        points = np.vstack([have, *added]) if added else have
        enough = len(points) > len(form.names) and len(added) >= least
        if enough and separation(rows(points)) > 3 * SEPARABLE:
            break
        open_pool = pool[~(pool[:, None] == points[None]).all(-1).any(1)]
        if not len(open_pool):
            break
        added.append(_most_informative(rows, points, open_pool)[None])
    return np.vstack(added) if added else np.zeros((0, 3))


def _most_informative(rows: Callable[[Array], Array], points: Array, pool: Array) -> Array:
    """The point of `pool` that adds most to log det of the information; a ridge stands in for what is missing."""
    known = rows(points)
    information = known.T @ known
    information += 1e-9 * np.trace(information) * np.eye(len(information))
    new = rows(pool)
    gain = np.einsum("ij,jk,ik->i", new, np.linalg.inv(information), new)
    return pool[int(np.argmax(gain))]
