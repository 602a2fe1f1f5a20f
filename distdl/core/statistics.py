"""Means over repetitions with 95 % intervals, and paired differences of trials that share a seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A figure over repetitions: mean, and the ends of its 95 % interval (Student's t; both ends nan for n = 1)."""

    n: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.text()

    def text(self, form: str = ".4g", unit: str = "") -> str:
        """Mean, interval and number of repetitions: "91.37 % (90.04 to 92.71, n = 3)".

        Args:
            form: format of the numbers, as in f-strings.
            unit: what follows the mean: " %".
        """
        interval = "" if self.n < 2 else f"{self.low:{form}} to {self.high:{form}}, "
        return f"{self.mean:{form}}{unit} ({interval}n = {self.n})"

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval; the mean twice if there is one repetition."""
        return (self.low, self.high) if self.n > 1 else (self.mean, self.mean)

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval. False for one repetition."""
        return self.low > 0 or self.high < 0

    def minus(self, other: "Spread") -> "Spread":
        """The difference of two independent figures, with its own 95 % interval (Welch's t; nan for n = 1).

        Two intervals may overlap while that of the difference excludes 0: it is narrower than both together.
        """
        from scipy.stats import t

        mean, n = self.mean - other.mean, min(self.n, other.n)
        if n < 2:
            return Spread(n, mean, math.nan, math.nan)
        errors = [(each.high - each.mean) / float(t.ppf(0.975, each.n - 1)) for each in (self, other)]
        variance = sum(error**2 for error in errors)
        if not variance:
            return Spread(n, mean, mean, mean)
        freedom = variance**2 / sum(error**4 / (each.n - 1) for error, each in zip(errors, (self, other), strict=True))
        half = float(t.ppf(0.975, freedom)) * variance**0.5
        return Spread(n, mean, mean - half, mean + half)

    def beats(self, other: "Spread") -> bool:
        """Whether the difference is positive and its 95 % interval excludes 0. False for single repetitions."""
        return self.minus(other).low > 0


def spread(values: Sequence[float]) -> Spread:
    """Mean and 95 % interval of `values` (at least one)."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Spread(n, mean, math.nan, math.nan)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    return Spread(n, mean, mean - half, mean + half)


def over_seeds(values: Mapping[int, float]) -> Spread:
    """Mean and 95 % interval of values by seed (at least one)."""
    return spread(list(values.values()))


def gain(more: Mapping[int, float], less: Mapping[int, float]) -> Spread | None:
    """Spread of the differences `more` - `less`, both by seed; None if no seed is in both."""
    differences = [more[seed] - less[seed] for seed in sorted(set(more) & set(less))]
    return spread(differences) if differences else None


def above_zero(difference: Spread | None) -> bool | None:
    """Whether the difference is positive and its interval excludes 0; None for one seed or none."""
    return difference.low > 0 if difference and difference.n > 1 else None


def points(difference: Spread) -> str:
    """A difference as text: "+1.20 points (+0.40 to +2.00, n = 3)"."""
    return difference.text("+.2f", " points")
