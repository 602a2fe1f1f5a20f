"""Means over repetitions with 95 % intervals, and paired differences of trials that share a seed."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Mean over repetitions with its 95 % interval (Student's t; both ends nan for n = 1)."""

    n: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:.4g} (n = {self.n})"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g}, n = {self.n})"

    def minus(self, other: "Spread") -> "Spread":
        """Difference of two independent means, with its 95 % interval (Welch's t; nan for n = 1).

        This interval may exclude 0 although the two intervals overlap: it is narrower than their sum.
        """
        from scipy.stats import t

        difference, n = self.mean - other.mean, min(self.n, other.n)
        if n < 2:
            return Spread(n, difference, float("nan"), float("nan"))
        each = [(mean.high - mean.mean) / float(t.ppf(0.975, mean.n - 1)) for mean in (self, other)]
        variance = sum(error**2 for error in each)
        if not variance:
            return Spread(n, difference, difference, difference)
        freedom = variance**2 / sum(error**4 / (mean.n - 1) for error, mean in zip(each, (self, other), strict=True))
        half = float(t.ppf(0.975, freedom)) * variance**0.5
        return Spread(n, difference, difference - half, difference + half)

    def beats(self, other: "Spread") -> bool:
        """Whether the difference is positive and its 95 % interval excludes 0. False for a single repetition."""
        return self.minus(other).low > 0


def spread(values: list[float]) -> Spread:
    """Mean and 95 % interval of at least one value."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Spread(n, mean, float("nan"), float("nan"))
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    return Spread(n, mean, mean - half, mean + half)


def gain(more: Mapping[int, float], less: Mapping[int, float]) -> Spread | None:
    """Spread of the paired differences `more` - `less` by seed; None if no seed has both."""
    both = [more[seed] - less[seed] for seed in sorted(set(more) & set(less))]
    return spread(both) if both else None


def above_zero(difference: Spread | None) -> bool | None:
    """Whether the interval is above 0; None for fewer than two seeds."""
    return difference.low > 0 if difference and difference.n > 1 else None


def points(difference: Spread) -> str:
    """A difference as text: "+1.20 points (+0.40 to +2.00, n = 3)"."""
    if difference.n < 2:
        return f"{difference.mean:+.2f} points (n = {difference.n})"
    return f"{difference.mean:+.2f} points ({difference.low:+.2f} to {difference.high:+.2f}, n = {difference.n})"
