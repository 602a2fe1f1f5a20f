"""Figures as files: every kind of mark is drawn, long curves keep their extremes, and the CSV has all."""

import csv
import io
import math
import random
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from distdl.report import downsample as thin
from distdl.report import figure_files as figures
from distdl.report import vega_lite as chart
from distdl.report.content import Axis, Figure, Layer

X, Y, CATEGORY = Axis(title="x"), Axis(title="y"), Axis(title="kind", scale="category")
XY = {"x": [1.0, 2.0, 3.0], "y": [2.0, 1.0, 4.0], "s": ["a", "b", "b"], "lo": [1.0, 0.5, 3.0], "hi": [3.0, 2.0, 5.0]}
CELLS = {"x": [1, 2, 1, 2], "y": [1, 1, 2, 2], "v": [0.1, 0.2, 0.3, 0.4]}
NAMED = {"x": ["a", "b", "a", "b"], "y": [1.0, 2.0, 3.0, 4.0], "s": ["u", "u", "v", "v"], "from": [0.0, 1.0, 0.5, 2.0]}
MARKS = {
    "line": (X, Y, Layer(mark="line", data=XY, series="s"), "mark-line"),
    "points": (X, Y, Layer(mark="points", data=XY, low="lo", high="hi"), "mark-symbol"),
    "whiskers": (X, Y, Layer(mark="points", data=XY, low="lo", high="hi", series="s"), "mark-rule"),
    "band": (X, Y, Layer(mark="band", data=XY, low="lo", high="hi"), "mark-area"),
    "rule": (X, Y, Layer(mark="rule", data={"y": [1.0]}), "mark-rule"),
    "bars": (CATEGORY, Y, Layer(mark="bars", data=NAMED, series="s"), "mark-rect"),
    "stacked": (CATEGORY, Y, Layer(mark="bars", data=NAMED, series="s", stack=True), "mark-rect"),
    "floating": (CATEGORY, Y, Layer(mark="bars", data=NAMED, start="from"), "mark-rect"),
    "histogram": (X, Y, Layer(mark="bars", data=XY), "mark-rect"),
    "lying": (X, CATEGORY, Layer(mark="bars", data=NAMED, x="y", y="x"), "mark-rect"),
    "tiles": (X, Y, Layer(mark="tiles", data=CELLS, value="v"), "mark-rect"),
    "named tiles": (CATEGORY, CATEGORY, Layer(mark="tiles", data=CELLS, value="v"), "mark-text"),
    "log": (Axis(title="x", scale="log"), Axis(title="y", scale="log"), Layer(mark="line", data=XY), "mark-line"),
    "log tiles": (Axis(title="x", scale="log"), Y, Layer(mark="tiles", data=CELLS, value="v"), "mark-rect"),
}


def figure(*layers: Layer, x: Axis = X, y: Axis = Y, name: str = "f") -> Figure:
    return Figure(name=name, title="A title", x=x, y=y, layers=layers, caption="What it is.")


@pytest.mark.parametrize("kind", MARKS)
def test_every_mark_is_drawn_on_paper(kind):
    x, y, layer, mark = MARKS[kind]
    drawn = figures.svg(figure(layer, x=x, y=y))
    root = ElementTree.fromstring(drawn)
    groups = [
        group for group in root.iter() if mark in group.get("class", "") and "role-mark" in group.get("class", "")
    ]
    shapes = [shape for group in groups for shape in group if shape.get("d") or shape.get("x2") or shape.text]
    assert shapes, f"no {mark}"
    # "NaN" in a path is a mark that has no place.
    assert not any("NaN" in (shape.get("d") or "") + (shape.get("transform") or "") for shape in root.iter())
    assert "A title" in drawn and "What it is." in drawn
    picture = np.asarray(Image.open(io.BytesIO(figures.png(drawn))).convert("RGB"))
    assert picture.shape[1] > 1000 and picture.std() > 1


@pytest.mark.parametrize("kind", MARKS)
def test_every_mark_has_a_specification_for_the_page(kind):
    x, y, layer, _ = MARKS[kind]
    spec, notes = chart.spec(figure(layer, x=x, y=y), paper=False)
    assert notes == [] and spec["width"] == "container"
    assert bool(spec["layer"][0].get("params")) == (
        kind not in ("named tiles", "rule")
    )  # which have nothing to zoom into
    told = spec["usermeta"]["told"][0]
    assert spec["datasets"][told["rows"]] and told["columns"]


def test_series_have_the_same_colour_in_every_layer_and_shapes_beside():
    one = Layer(mark="line", data={"x": [1, 2], "y": [1, 2], "s": ["b", "b"]}, series="s")
    two = Layer(mark="points", data={"x": [1, 2], "y": [1, 2], "s": ["a", "b"]}, series="s")
    spec, _ = chart.spec(figure(one, two), paper=True)
    colours = [layer["encoding"]["color"]["scale"] for layer in spec["layer"]]
    assert colours[0] == colours[1] and colours[0]["domain"] == ["b", "a"]
    assert len(set(colours[0]["range"])) == 2
    assert spec["layer"][0]["encoding"]["strokeDash"]["scale"]["range"][0] == [1, 0]
    assert len(set(spec["layer"][1]["encoding"]["shape"]["scale"]["range"])) == 2


def test_users_column_names_are_never_part_of_an_expression():
    evil = "']; alert(1); datum['"
    layer = Layer(mark="line", data={evil: [1, 2], "y": [1, 2], "other": [3, 4]}, x=evil)
    spec, _ = chart.spec(figure(layer), paper=False)
    assert evil not in str({**spec, "usermeta": None})
    assert spec["datasets"]["rows0"][0] == {"x": 1, "y": 1, "other0": 3, "row": 0}


def test_what_has_no_place_on_a_log_axis_is_left_out_and_told():
    layer = Layer(mark="line", data={"x": [1, 2, 3, 4], "y": [1.0, 0.0, -1.0, 2.0]})
    spec, notes = chart.spec(figure(layer, y=Axis(title="y", scale="log")), paper=True)
    assert [row["y"] for row in spec["datasets"]["rows0"]] == [1.0, None, None, 2.0]
    assert notes == ["2 values that are not above 0 have no place on a logarithmic axis."]
    assert notes[0] in figures.svg(figure(layer, y=Axis(title="y", scale="log")))


def test_not_a_number_breaks_a_line_and_is_no_point():
    data = {"x": [1, 2, 3, 4], "y": [1.0, math.nan, math.inf, None]}
    line, _ = chart.spec(figure(Layer(mark="line", data=data)), paper=False)
    points, _ = chart.spec(figure(Layer(mark="points", data=data)), paper=False)
    assert [row["y"] for row in line["datasets"]["rows0"]] == [1.0, None, None, None]
    assert len(points["datasets"]["rows0"]) == 1


def test_a_long_curve_keeps_its_extremes_its_ends_and_its_gaps():
    rng = random.Random(0)
    values: list[float | None] = [rng.random() for _ in range(50_000)]
    values[31_234], values[7] = 9.0, -9.0
    values[40_000:42_000] = [None] * 2000
    layer = Layer(
        mark="line", data={"x": list(range(50_000)), "y": values, "s": ["a"] * 25_000 + ["b"] * 25_000}, series="s"
    )
    shown, notes = thin.drawn(figure(layer))
    rows = shown.layers[0].data
    assert len(rows["x"]) <= 2 * thin.MOST_ROWS + 4
    assert max(v for v in rows["y"] if v is not None) == 9.0 and min(v for v in rows["y"] if v is not None) == -9.0
    assert {0, 24_999, 25_000, 49_999} <= set(rows["x"])
    assert any(value is None and 40_000 <= x < 42_000 for x, value in zip(rows["x"], rows["y"], strict=True))
    assert rows["x"] == sorted(rows["x"])
    assert notes == ["50,000 rows, drawn by the lowest and the highest of each stretch; the CSV has all."]


def test_a_short_curve_is_drawn_as_it_is():
    layer = Layer(mark="line", data=XY, series="s")
    shown, notes = thin.drawn(figure(layer))
    assert shown.layers[0].data == XY and notes == []


def test_many_tiles_are_thinned_to_a_whole_grid():
    side = 200
    cells = {"x": [i for i in range(side) for _ in range(side)], "y": list(range(side)) * side, "v": [1.0] * side**2}
    shown, notes = thin.drawn(figure(Layer(mark="tiles", data=cells, value="v")))
    rows = shown.layers[0].data
    assert len(set(rows["x"])) == len(set(rows["y"])) == 50 and len(rows["x"]) == 2500
    assert notes == ["Each 4th cell of 200 x 200 is drawn; the CSV has all."]


def test_tiles_of_uneven_steps_meet_half_way():
    cells = {"x": [1.0, 2.0, 4.0], "y": [0, 0, 0], "v": [1, 2, 3]}
    spec, _ = chart.spec(figure(Layer(mark="tiles", data=cells, value="v")), paper=True)
    assert [(row["x0"], row["x1"]) for row in spec["datasets"]["rows0"]] == [(0.5, 1.5), (1.5, 3.0), (3.0, 5.0)]


def test_the_csv_has_every_row_unrounded():
    values = [1 / 3 + i for i in range(5000)]
    layer = Layer(mark="line", data={"x": list(range(5000)), "y": values})
    rows = list(csv.reader(io.StringIO(figures.figure_csv(figure(layer, layer)))))
    assert rows[0] == ["x", "y"] and len(rows) == 5001
    assert [float(row[1]) for row in rows[1:]] == values


def test_the_csv_of_several_layers_says_which_a_row_is_of():
    other = Layer(mark="rule", data={"y": [7.0], "what": ['target, "quoted"']})
    rows = list(
        csv.DictReader(io.StringIO(figures.figure_csv(figure(Layer(mark="line", data={"x": [1], "y": [2]}), other))))
    )
    assert rows == [
        {"layer": "line", "x": "1", "y": "2", "what": ""},
        {"layer": "rule", "x": "", "y": "7.0", "what": 'target, "quoted"'},
    ]


def test_points_without_an_interval_have_no_whisker():
    data = {"x": [1, 2], "y": [1, 2], "lo": [None, math.nan], "hi": [None, None]}
    spec, _ = chart.spec(figure(Layer(mark="points", data=data, low="lo", high="hi")), paper=False)
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["point"]


def test_an_empty_figure_is_drawn():
    layer = Layer(mark="line", data={"x": [], "y": []})
    assert "A title" in figures.svg(figure(layer))
