"""Differences between trials that share a seed, and with it what the seed draws: their spread is theirs alone."""

from collections.abc import Mapping

from distdl.studies.base import Spread, spread


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
