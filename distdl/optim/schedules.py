"""Learning rates as a function of the position in the run, and of nothing else: no state that a resume could lose."""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from distdl.core import registry
from distdl.core.config import ScheduleConfig
from distdl.core.registry import NO_OPTIONS, Options

WARMUP_START = 0.01
ONECYCLE_START, ONECYCLE_END = 1 / 25, 1e-4 / 25
"""Shares of the rate at the top; those of torch.optim.lr_scheduler.OneCycleLR."""
_ROUNDING = 1e-9
"""A position computed from samples may fall short of the epoch that it stands for by as much."""


def constant(epoch: float, done: float) -> float:
    return 1.0


def step(epoch: float, done: float, *, step_epochs: int, gamma: float) -> float:
    return gamma ** math.floor(epoch / step_epochs + _ROUNDING)


def multistep(epoch: float, done: float, *, milestones: Sequence[float], gamma: float) -> float:
    return gamma ** sum(epoch + _ROUNDING >= milestone for milestone in milestones)


def cosine(epoch: float, done: float, *, final_lr: float) -> float:
    """Loshchilov and Hutter 2017 (arXiv:1608.03983), Eq. 5, without restarts."""
    return _half_wave(1.0, final_lr, done)


def onecycle(epoch: float, done: float, *, warmup_fraction: float) -> float:
    """Smith and Topin 2018 (arXiv:1708.07120); the momentum does not change."""
    if done < warmup_fraction:
        return _half_wave(ONECYCLE_START, 1.0, done / warmup_fraction)
    return _half_wave(
        1.0, ONECYCLE_END, (done - warmup_fraction) / (1 - warmup_fraction) if warmup_fraction < 1 else 0.0
    )


def _half_wave(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def build(config: ScheduleConfig, epochs: float, options: Options = NO_OPTIONS) -> Callable[[float], float]:
    """The learning rate by position, as a share of the peak rate: a function of the epochs trained so far.

    The warm-up rises linearly to where the schedule is at its end. Drops are counted from the start of the run; cosine
    and one-cycle take the run that the warm-up leaves.

    Args:
        epochs: length of the run.
        options: settings that are no fields of `config`, for schedules of other packages.
    Raises:
        UserError: for a setting that the schedule does not have.
    """
    row = registry.find("schedules", config.name)
    schedule = registry.load(row)
    fields = registry.field_values(row, config, "schedule")
    fields |= registry.settings(schedule, options, "options.schedule", positional=2, named=fields)
    warmup = min(config.warmup_epochs, epochs)

    def factor(epoch: float) -> float:
        done = min(max((epoch - warmup) / (epochs - warmup), 0.0), 1.0) if epochs > warmup else 0.0
        if epoch >= warmup:
            return schedule(epoch, done, **fields)
        return schedule(warmup, done, **fields) * (WARMUP_START + (1 - WARMUP_START) * epoch / warmup)

    return factor


def apply(optimizer: Optimizer, factor: float) -> None:
    """Set the rate of each group to a share of its `peak_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
