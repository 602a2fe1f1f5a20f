"""Learning rates as a function of the position in the run, and of nothing else: no state that a resume could lose."""

import math
from collections.abc import Callable

from torch.optim import Optimizer

from distdl.core.config import ScheduleConfig

WARMUP_START = 0.01
ONECYCLE_START, ONECYCLE_END = 1 / 25, 1e-4 / 25
"""Shares of the rate at the top; those of torch.optim.lr_scheduler.OneCycleLR."""
_ROUNDING = 1e-9
"""A position computed from samples may fall short of the epoch that it stands for by as much."""


def _constant(config: ScheduleConfig, epoch: float, done: float) -> float:
    return 1.0


def _step(config: ScheduleConfig, epoch: float, done: float) -> float:
    return config.gamma ** math.floor(epoch / config.step_epochs + _ROUNDING)


def _multistep(config: ScheduleConfig, epoch: float, done: float) -> float:
    return config.gamma ** sum(epoch + _ROUNDING >= milestone for milestone in config.milestones)


def _cosine(config: ScheduleConfig, epoch: float, done: float) -> float:
    """Loshchilov and Hutter 2017 (arXiv:1608.03983), Eq. 5, without restarts."""
    return _half_wave(1.0, config.final_lr, done)


def _onecycle(config: ScheduleConfig, epoch: float, done: float) -> float:
    """Smith and Topin 2018 (arXiv:1708.07120); the momentum stays as it is."""
    if done < config.rise:
        return _half_wave(ONECYCLE_START, 1.0, done / config.rise)
    return _half_wave(1.0, ONECYCLE_END, (done - config.rise) / (1 - config.rise) if config.rise < 1 else 0.0)


def _half_wave(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


SCHEDULES: dict[str, Callable[[ScheduleConfig, float, float], float]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "cosine": _cosine,
    "onecycle": _onecycle,
}


def factor(config: ScheduleConfig, epoch: float, epochs: float) -> float:
    """The learning rate at a position, as a share of the rate at the top.

    The warm-up rises linearly to where the schedule stands at its end. Drops are counted from the start of the run;
    cosine and one-cycle take the run that the warm-up leaves.

    Args:
        epoch: epochs trained so far, whole and part.
        epochs: length of the run.
    """
    warmup = min(config.warmup_epochs, epochs)
    schedule = SCHEDULES[config.name]
    done = min(max((epoch - warmup) / (epochs - warmup), 0.0), 1.0) if epochs > warmup else 0.0
    if epoch >= warmup:
        return schedule(config, epoch, done)
    return schedule(config, warmup, done) * (WARMUP_START + (1 - WARMUP_START) * epoch / warmup)


def apply(optimizer: Optimizer, factor: float) -> None:
    """Set the rate of each group to a share of its `peak_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
