"""Sentences that compare measured values. A difference is significant if its 95 % confidence interval excludes 0."""

from distdl.core.statistics import Spread

NOT_SIGNIFICANT = "which is not significant"


def exceeds(high: Spread, low: Spread) -> bool | None:
    """Whether `high` is larger and the interval of the difference excludes 0; None with single repetitions."""
    return high.beats(low) if high.n > 1 and low.n > 1 else None


def compare(first: Spread, second: Spread, unit: str = "points") -> str:
    """Difference of `first` and `second`: "5.0 points more (+3.0 to +7.0)", with a remark if it is not significant."""
    more = first.minus(second)
    if more.n < 2:
        return "a single repetition has no interval"
    text = f"{abs(more.mean):.1f} {unit} {'more' if more.mean > 0 else 'less'} ({more.low:+.1f} to {more.high:+.1f})"
    return text if more.excludes_zero else f"{text}, {NOT_SIGNIFICANT}"


def change(difference: Spread, unit: str = "points") -> str:
    """A difference: "+5.0 points (+3.0 to +7.0)", followed by a remark if it is not significant."""
    text = f"{difference.mean:+.1f} {unit}"
    if difference.n < 2:
        return text
    text += f" ({difference.low:+.1f} to {difference.high:+.1f})"
    return text if difference.excludes_zero else f"{text}, {NOT_SIGNIFICANT}"


def certainty(first: Spread, second: Spread) -> str:
    """State briefly whether the difference of two values is significant."""
    if min(first.n, second.n) < 2:
        return "one run each, so the significance is unknown"
    return "significant" if first.minus(second).excludes_zero else "not significant"
