"""Test accuracies of trials in per cent, as text and as table cells."""

import math
from collections.abc import Iterable, Mapping

from distdl.core.statistics import Spread, spread
from distdl.studies.base import Outcome


def accuracies(outcomes: Iterable[Outcome | None]) -> list[float]:
    """Test accuracy of each completed trial, in per cent."""
    return [100 * outcome.result["test"]["accuracy"] for outcome in outcomes if outcome and outcome.completed]


def by_seed(outcomes: Mapping[int, Outcome | None]) -> dict[int, float]:
    """Test accuracy of each completed trial, in per cent, by seed."""
    measured = {seed: accuracies([outcome]) for seed, outcome in outcomes.items()}
    return {seed: values[0] for seed, values in measured.items() if values}


def mean_accuracy(outcomes: Iterable[Outcome | None]) -> Spread | None:
    """Mean and interval of `accuracies`; None if no trial is completed."""
    values = accuracies(outcomes)
    return spread(values) if values else None


def percent(value: Spread) -> str:
    """ "91.37 % (90.04 to 92.71, n = 3)"."""
    return value.text(".2f", " %")


def cells(value: Spread | None) -> tuple[float | None, float | None, float | None, int]:
    """Mean, low, high and n as table cells; None instead of a value that does not exist."""
    if value is None:
        return None, None, None, 0
    mean, low, high = (round(end, 2) if math.isfinite(end) else None for end in (value.mean, value.low, value.high))
    return mean, low, high, value.n
