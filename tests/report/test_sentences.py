"""Sentences that compare measured figures."""

import pytest

from distdl.core.statistics import Spread, spread
from distdl.report.sentences import certainty, change, compare, exceeds

LOW, HIGH = spread([49.0, 50.0, 51.0]), spread([69.0, 70.0, 71.0])
NEAR = spread([49.5, 50.5, 51.5])


def test_a_clear_difference_is_stated_with_its_interval() -> None:
    assert compare(HIGH, LOW).startswith("20.0 points more (+17.7 to +22.3)") and "chance" not in compare(HIGH, LOW)
    assert compare(LOW, HIGH, "s").startswith("20.0 s less (-22.3 to -17.7)")
    assert certainty(HIGH, LOW) == certainty(LOW, HIGH) == "significant"
    assert (exceeds(HIGH, LOW), exceeds(LOW, HIGH)) == (True, False)


def test_a_difference_within_the_interval_is_not_significant() -> None:
    assert compare(NEAR, LOW).endswith(", which is not significant")
    assert certainty(NEAR, LOW) == "not significant" and exceeds(NEAR, LOW) is False


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Spread(3, 5.0, 3.0, 7.0), "+5.0 points (+3.0 to +7.0)"),
        (Spread(3, -1.0, -3.0, 1.0), "-1.0 points (-3.0 to +1.0), which is not significant"),
        (spread([2.0]), "+2.0 points"),
    ],
)
def test_a_change_has_its_sign(difference: Spread, text: str) -> None:
    assert change(difference) == text


def test_a_single_repetition_has_no_significance() -> None:
    alone = spread([90.0])
    assert compare(alone, LOW) == "a single repetition has no interval" and exceeds(alone, LOW) is None
    assert "significance is unknown" in certainty(alone, LOW)
