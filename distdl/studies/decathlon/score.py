"""The Visual Decathlon's score (Rebuffi et al. 2017, arXiv:1705.08045, section 4.1)."""

from collections.abc import Iterable

PERFECT, EXPONENT = 1000.0, 2


def domain(error: float, baseline_error: float) -> float:
    """Score of a domain: a (Emax - E)^2, with Emax twice the baseline's error rate and a such that E = 0 scores 1,000.

    The baseline itself scores 250; twice its error rate or more scores 0.

    Args:
        error, baseline_error: error rates in 0 to 1; `baseline_error` is above 0.
    """
    most = 2 * baseline_error
    return PERFECT * (max(0.0, most - error) / most) ** EXPONENT


def total(errors: Iterable[tuple[float, float]]) -> float:
    """Total score over (error, baseline_error) of the domains: at most 10,000. A missing domain adds 0."""
    return sum(domain(error, baseline) for error, baseline in errors)
