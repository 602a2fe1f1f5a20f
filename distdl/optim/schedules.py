"""Learning rate schedules, as functions of the position in the run only: there is no state to save and restore.

A schedule is a function of `epoch`, the epochs trained so far, and `progress`, which grows from 0 to 1 during the run
after the warm-up. It returns the learning rate relative to the peak learning rate.
"""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from distdl.core import factories
from distdl.core.config import ScheduleConfig
from distdl.core.registry import NO_OPTIONS, Options

WARMUP_START = 0.01
"""Learning rate at the start of the warm-up, relative to the schedule's value at its end."""
ONECYCLE_START, ONECYCLE_END = 1 / 25, 1e-4 / 25
"""Learning rate at the start and at the end, relative to the peak; the defaults of torch's OneCycleLR."""
_ROUNDING = 1e-9
"""Rounding error, in epochs, by which a position computed from samples may be below the exact epoch."""


def constant(epoch: float, progress: float) -> float:
    """Keep the learning rate constant."""
    return 1.0


def step(epoch: float, progress: float, *, step_epochs: int, gamma: float) -> float:
    """Multiply the learning rate by `gamma` every `step_epochs` epochs."""
    return gamma ** math.floor(epoch / step_epochs + _ROUNDING)


def multistep(epoch: float, progress: float, *, milestones: Sequence[float], gamma: float) -> float:
    """Multiply the learning rate by `gamma` at each of `milestones`, in epochs."""
    return gamma ** sum(epoch + _ROUNDING >= milestone for milestone in milestones)


def cosine(epoch: float, progress: float, *, final_lr: float) -> float:
    """Decrease the learning rate along half a cosine to `final_lr`, relative to the peak, without restarts.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), Eq. 5.
    """
    return _half_cosine(1.0, final_lr, progress)


def onecycle(epoch: float, progress: float, *, warmup_fraction: float) -> float:
    """Increase the learning rate during `warmup_fraction` of the run, then decrease it, both along half a cosine.

    Smith and Topin 2018 (arXiv:1708.07120), without their change of the momentum.
    """
    if progress < warmup_fraction:
        return _half_cosine(ONECYCLE_START, 1.0, progress / warmup_fraction)
    return _half_cosine(
        1.0, ONECYCLE_END, (progress - warmup_fraction) / (1 - warmup_fraction) if warmup_fraction < 1 else 0.0
    )


def _half_cosine(start: float, end: float, progress: float) -> float:
    """Interpolate from `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def build(config: ScheduleConfig, epochs: float, options: Options = NO_OPTIONS) -> Callable[[float], float]:
    """Build the learning rate, relative to the peak, as a function of the epochs trained so far.

    During the warm-up it rises linearly to the schedule's value at the end of the warm-up. Step and multistep count
    epochs from the start of the run; cosine and onecycle span the run after the warm-up.

    Args:
        epochs: length of the run in epochs.
        options: settings that are not fields of `config`, for schedules of other packages.
    Raises:
        UserError: the schedule does not have a setting, or does not return a number.
    """
    factory = factories.get("schedules", config.name)
    schedule = factory.bound(options, **factory.fields(config, "schedule"))
    warmup = min(config.warmup_epochs, epochs)

    def share(epoch: float, progress: float) -> float:
        value = schedule(epoch, progress)
        # Checked at every step: a schedule that returns None after its last drop is a frequent mistake.
        return value if type(value) is float and math.isfinite(value) else factory.number(value)

    def factor(epoch: float) -> float:
        progress = min(max((epoch - warmup) / (epochs - warmup), 0.0), 1.0) if epochs > warmup else 0.0
        if epoch >= warmup:
            return share(epoch, progress)
        return share(warmup, progress) * (WARMUP_START + (1 - WARMUP_START) * epoch / warmup)

    with factory.calling():
        for epoch in (0.0, epochs):
            factor(epoch)
    return factor


def apply(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of each group to `factor` times its `peak_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
