"""Long curves and many tiles are reduced to a number that can be drawn."""

import random

from distdl.core.format import is_number
from distdl.report.content import PlotLayer
from distdl.report.downsample import MOST_ROWS, downsampled
from figures import XY, figure


def test_a_long_curve_keeps_its_extremes_ends_and_gaps() -> None:
    rng = random.Random(0)
    values: list[float | None] = [rng.random() for _ in range(50_000)]
    values[31_234], values[7] = 9.0, -9.0
    values[40_000:42_000] = [None] * 2000
    layer = PlotLayer(
        mark="line", data={"x": list(range(50_000)), "y": values, "s": ["a"] * 25_000 + ["b"] * 25_000}, series="s"
    )
    reduced, notes = downsampled(figure(layer))
    rows = reduced.layers[0].data
    assert len(rows["x"]) <= 2 * MOST_ROWS + 4
    assert max(v for v in rows["y"] if v is not None) == 9.0 and min(v for v in rows["y"] if v is not None) == -9.0
    assert {0, 24_999, 25_000, 49_999} <= set(rows["x"])
    x = [cell for cell in rows["x"] if is_number(cell)]
    assert any(value is None and 40_000 <= cell < 42_000 for cell, value in zip(x, rows["y"], strict=True))
    assert x == sorted(x)
    assert notes == ["50,000 rows, drawn as minimum and maximum of each group of rows; the CSV has all rows."]


def test_a_short_curve_keeps_all_rows() -> None:
    layer = PlotLayer(mark="line", data=XY, series="s")
    reduced, notes = downsampled(figure(layer))
    assert reduced.layers[0].data == XY and notes == []


def test_many_tiles_are_reduced_to_a_regular_grid() -> None:
    side = 200
    cells = {"x": [i for i in range(side) for _ in range(side)], "y": list(range(side)) * side, "v": [1.0] * side**2}
    reduced, notes = downsampled(figure(PlotLayer(mark="tiles", data=cells, value="v")))
    rows = reduced.layers[0].data
    assert len(set(rows["x"])) == len(set(rows["y"])) == 50 and len(rows["x"]) == 2500
    assert notes == ["Each 4th cell of 200 x 200 is drawn; the CSV has all cells."]
