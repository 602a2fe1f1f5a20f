"""Test accuracies of trials, in per cent, and how they are written and drawn."""

import math
from collections.abc import Iterable

from distdl.core.statistics import Spread, spread
from distdl.studies.base import Outcome


def accuracies(outcomes: Iterable[Outcome | None]) -> list[float]:
    """Of those trials that are completed: accuracy on the test set, in per cent."""
    return [100 * outcome.result["test"]["accuracy"] for outcome in outcomes if outcome and outcome.completed]


def over(outcomes: Iterable[Outcome | None]) -> Spread | None:
    """Mean and interval of `accuracies`, or None where no trial is completed."""
    found = accuracies(outcomes)
    return spread(found) if found else None


def percent(value: Spread) -> str:
    """ "91.37 % (90.04 to 92.71, n = 3)"."""
    if value.n < 2:
        return f"{value.mean:.2f} % (n = {value.n})"
    return f"{value.mean:.2f} % ({value.low:.2f} to {value.high:.2f}, n = {value.n})"


def cells(value: Spread | None) -> tuple[float | None, float | None, float | None, int]:
    """Mean, low, high and n for a table; None where there is no number."""
    if value is None:
        return None, None, None, 0
    return *(round(end, 2) if math.isfinite(end) else None for end in (value.mean, value.low, value.high)), value.n


def ends(value: Spread) -> tuple[float, float]:
    """Ends of the interval for a figure: the mean itself where there is one repetition."""
    return (value.low, value.high) if value.n > 1 else (value.mean, value.mean)
