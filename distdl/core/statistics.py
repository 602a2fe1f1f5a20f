"""Means over repetitions with 95 % intervals, and paired differences of trials that share a seed."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A figure over repetitions: mean, and the ends of its 95 % interval (Student's t; both ends nan for n = 1)."""

    n: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:.4g} (n = {self.n})"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g}, n = {self.n})"

    def minus(self, other: "Spread") -> "Spread":
        """The difference of two independent figures, with its own 95 % interval (Welch's t; nan for n = 1).

        Two intervals may overlap where the difference's own leaves out 0: it is narrower than both together.
        """
        from scipy.stats import t

        mean, n = self.mean - other.mean, min(self.n, other.n)
        if n < 2:
            return Spread(n, mean, float("nan"), float("nan"))
        each = [(one.high - one.mean) / float(t.ppf(0.975, one.n - 1)) for one in (self, other)]
        variance = sum(error**2 for error in each)
        if not variance:
            return Spread(n, mean, mean, mean)
        freedom = variance**2 / sum(error**4 / (one.n - 1) for error, one in zip(each, (self, other), strict=True))
        half = float(t.ppf(0.975, freedom)) * variance**0.5
        return Spread(n, mean, mean - half, mean + half)

    def beats(self, other: "Spread") -> bool:
        """Larger, and it can be told: the difference's interval leaves out 0. Never of single repetitions."""
        return self.minus(other).low > 0


def spread(values: list[float]) -> Spread:
    """Mean and 95 % interval of `values` (at least one)."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Spread(n, mean, float("nan"), float("nan"))
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    return Spread(n, mean, mean - half, mean + half)


def gain(more: Mapping[int, float], less: Mapping[int, float]) -> Spread | None:
    """Spread of `more` less `less`, each by seed; None where no seed has both."""
    both = [more[seed] - less[seed] for seed in sorted(set(more) & set(less))]
    return spread(both) if both else None


def above_zero(difference: Spread | None) -> bool | None:
    """Whether the interval allows to say that it is; None of one seed or none."""
    return difference.low > 0 if difference and difference.n > 1 else None


def points(difference: Spread) -> str:
    """ "+1.20 points (+0.40 to +2.00, n = 3)"."""
    if difference.n < 2:
        return f"{difference.mean:+.2f} points (n = {difference.n})"
    return f"{difference.mean:+.2f} points ({difference.low:+.2f} to {difference.high:+.2f}, n = {difference.n})"
