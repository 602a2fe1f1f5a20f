"""Time and cost to a target by servers and workers: seconds per step from a speed model, times steps to the target."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.arrays import Array
from distdl.perf.speed import fit_speed, optimus
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.read_speeds import read, read_runs
from distdl.perf.speed.speed_fit import SpeedFit

Steps = Callable[[Array], tuple[Array, Array, Array]]
"""Function of points [n, 3] (servers, workers, global batch): seconds per step and the ends of its 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Range of configurations, and the quantities that turn their speed into time and cost."""

    servers: tuple[int, ...]
    most_servers: int
    most_workers: int
    price_per_hour: float
    pays: float
    batch: int
    images: float
    """Images per epoch."""

    @property
    def steps_per_epoch(self) -> float:
        return float(np.ceil(self.images / self.batch))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One configuration."""

    servers: int
    workers: int
    hours: float
    low: float
    high: float
    cost: float


def measured(folders: Sequence[Path], file: Path | None) -> tuple[Measurements, list[SpeedFit]] | str:
    """Return measured steps and the fits of two models to them, or the reason why there are none."""
    if file is None and not folders:
        return "no parameter-server run is completed"
    try:
        data = read([file]) if file else read_runs(folders)
        return data, [fit_speed(data, form) for form in ("optimus-sync", "auto")]
    except UserError as error:
        return str(error)


def published(points: Array) -> tuple[Array, Array, Array]:
    """Step times by ResNet-50's published coefficients, for which no intervals were published."""
    step_s = optimus.step_s(optimus.PUBLISHED_SYNC, *points.T)
    return step_s, step_s, step_s


def plans(scale: Scale, steps: Steps, epochs: tuple[float, float, float], servers: Sequence[int]) -> list[Plan]:
    """Return the time to the target with 1 to `most_workers` workers for each number of servers.

    Args:
        epochs: number of epochs to the target, and the ends of its 95 % interval. It is independent of the step time,
            so the squares of the relative widths of both intervals are added.
    """
    grid = [(p, w, scale.batch) for p in servers for w in range(1, min(scale.most_workers, scale.batch) + 1)]
    step_s, low, high = steps(np.array(grid, float))
    listed = []
    for (p, w, _), *seconds in zip(grid, step_s, low, high, strict=True):
        mid = seconds[0] * scale.steps_per_epoch * epochs[0] / 3600
        below = np.hypot(np.log(seconds[0] / seconds[1]), np.log(epochs[0] / epochs[1]))
        above = np.hypot(np.log(seconds[2] / seconds[0]), np.log(epochs[2] / epochs[0]))
        cost = mid * (p + w) * scale.price_per_hour
        listed.append(
            Plan(
                servers=p,
                workers=w,
                hours=mid,
                low=mid * float(np.exp(-below)),
                high=mid * float(np.exp(above)),
                cost=cost,
            )
        )
    return listed


def last_paying_plan(plans: Sequence[Plan], pays: float) -> Plan:
    """Return the plan with the last worker that pays, among plans with the same number of servers.

    Args:
        pays: share by which an additional worker must shorten the time.
    """
    ordered = sorted(plans, key=lambda plan: plan.workers)
    for plan, more in itertools.pairwise(ordered):
        if more.hours > plan.hours * (1 - pays):
            return plan
    return ordered[-1]
