"""Phases of a training step: their names, their descriptions, and the mean time of each from a run's totals."""

from collections.abc import Mapping
from typing import Any, NamedTuple

PHASES = ("data", "transfer", "forward", "backward", "exchange", "update")

EXPLAIN = {
    "data": "waiting for the loader",
    "transfer": "host to device, augmentation on the device",
    "forward": "network and loss",
    "backward": "gradients",
    "exchange": "gradients between ranks, the part not hidden by backward",
    "update": "optimizer",
    "rest": "the loop itself, display, logging",
}


class PhaseTime(NamedTuple):
    """Mean time of one phase."""

    name: str
    """One of PHASES, or "rest"."""
    step_s: float
    """Seconds per step."""
    share: float
    """Share of the training time."""


def per_step(result: Mapping[str, Any]) -> list[PhaseTime]:
    """Mean time of each phase and of the rest of a step; all zero before the first step.

    Args:
        result: result.json of a run, or a row of metrics.jsonl with `train_s`: phases_s, steps, train_s. Where phases
            overlap so that they add up to more than train_s, shares are of their sum and the rest is 0.
    """
    totals = {name: result["phases_s"].get(name) or 0.0 for name in PHASES}
    measured_s = sum(totals.values())
    train_s = max(result["train_s"] or 0.0, measured_s)
    totals["rest"] = train_s - measured_s
    steps = max(result["steps"], 1)
    return [PhaseTime(name, total / steps, total / train_s if train_s else 0.0) for name, total in totals.items()]
