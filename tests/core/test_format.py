"""Formatting of cells and durations."""

import math

import pytest

from distdl.core.format import Cell, duration, written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "never"),
        (0.25, "250 ms"),
        (3.2, "3.2 s"),
        (119.9, "119.9 s"),
        (245, "4 min 5 s"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_are_formatted(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (1437, "1437"),
        (14_370, "14,370"),
        (1437.0, "1,437"),
        (0.004, "0.004"),
        (95.5621, "95.56"),
        (0.0, "0"),
        (1e-9, "1.000e-9"),
        (1.5e9, "1.500e+9"),
        (-math.inf, "-∞"),
        (math.nan, "not a number"),
        ("text", "text"),
    ],
)
def test_cells_are_formatted(cell: Cell, text: str) -> None:
    assert written(cell) == text
