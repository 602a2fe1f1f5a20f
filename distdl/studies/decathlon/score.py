"""The Visual Decathlon's score (Rebuffi et al. 2017, arXiv:1705.08045, section 4.1)."""

from collections.abc import Iterable

PERFECT, EXPONENT = 1000.0, 2


def domain(error: float, baseline_error: float) -> float:
    """Points of a domain: a (Emax - E)^2. Emax is twice the baseline's error; a gives a perfect domain 1,000 points.

    The baseline itself has 250, and an error of twice the baseline's or more has 0.

    Args:
        error, baseline_error: error rates; that of the baseline is above 0.
    """
    most = 2 * baseline_error
    return PERFECT * (max(0.0, most - error) / most) ** EXPONENT


def total(errors: Iterable[tuple[float, float]]) -> float:
    """Sum over (error, baseline's error) of the domains: 10,000 at most for all ten. A missing one adds nothing."""
    return sum(domain(error, baseline) for error, baseline in errors)
