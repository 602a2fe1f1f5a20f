"""Specifications of figures: colors, descriptions, zoom, and the data for page.js."""

import math
from typing import get_args, get_type_hints

import pytest

from distdl.report import marks
from distdl.report.content import Axis, PlotLayer
from distdl.report.vega_lite import spec
from figures import CATEGORY, CELLS, MARKS, XY, figure


def test_each_kind_of_mark_has_a_function() -> None:
    assert set(marks.MARKS) == set(get_args(get_type_hints(PlotLayer)["mark"]))


@pytest.mark.parametrize("kind", MARKS)
def test_every_mark_has_a_specification_for_the_page(kind: str) -> None:
    x, y, layer, _ = MARKS[kind]
    chart, notes = spec(figure(layer, x=x, y=y), paper=False)
    assert notes == [] and chart["width"] == "container"
    assert bool(chart["layer"][0].get("params")) == (kind not in ("named tiles", "rule"))  # marks without zoom
    described = chart["usermeta"]["layers"][0]
    assert chart["datasets"][described["rows"]] and described["columns"]


def test_series_have_the_same_color_in_all_layers_and_different_dashes_and_shapes() -> None:
    line = PlotLayer(mark="line", data={"x": [1, 2], "y": [1, 2], "s": ["b", "b"]}, series="s")
    points = PlotLayer(mark="points", data={"x": [1, 2], "y": [1, 2], "s": ["a", "b"]}, series="s")
    chart, _ = spec(figure(line, points), paper=True)
    colors = [layer["encoding"]["color"]["scale"] for layer in chart["layer"]]
    assert colors[0] == colors[1] and colors[0]["domain"] == ["b", "a"]
    assert len(set(colors[0]["range"])) == 2
    assert chart["layer"][0]["encoding"]["strokeDash"]["scale"]["range"][0] == [1, 0]
    assert len(set(chart["layer"][1]["encoding"]["shape"]["scale"]["range"])) == 2


def test_users_column_names_are_never_part_of_an_expression() -> None:
    evil = "']; alert(1); datum['"
    layer = PlotLayer(mark="line", data={evil: [1, 2], "y": [1, 2], "other": [3, 4]}, x=evil)
    chart, _ = spec(figure(layer), paper=False)
    assert evil not in str({**chart, "usermeta": None})
    assert chart["datasets"]["rows0"][0] == {"x": 1, "y": 1, "other0": 3, "row": 0}


def test_points_without_an_interval_have_no_error_bar() -> None:
    data = {"x": [1, 2], "y": [1, 2], "lo": [None, math.nan], "hi": [None, None]}
    chart, _ = spec(figure(PlotLayer(mark="points", data=data, low="lo", high="hi")), paper=False)
    assert [layer["mark"]["type"] for layer in chart["layer"]] == ["point"]


@pytest.mark.parametrize("kind", MARKS)
def test_a_specification_changes_no_input_and_is_repeatable(kind: str) -> None:
    x, y, layer, _ = MARKS[kind]
    original = {name: list(cells) for name, cells in layer.data.items()}
    once, again = (spec(figure(layer, x=x, y=y), paper=False) for _ in range(2))
    assert once == again and layer.data == original


def test_lines_over_tiles_do_not_change_the_color_scale() -> None:
    tiles, line = PlotLayer(mark="tiles", data=CELLS, value="v"), PlotLayer(mark="line", data=XY)
    chart, _ = spec(figure(tiles, line), paper=True)
    below, above = chart["layer"]
    assert below["encoding"]["color"]["scale"] == {"range": list(marks.GRAYS)}
    assert "color" not in above["encoding"] and "stroke" in above["encoding"]
    assert chart["usermeta"]["side_width"] == 150


@pytest.mark.parametrize(
    ("names", "angle"), [(["a", "b"], 0), (["a" * 20] + ["b" * 20 + str(i) for i in range(9)], -35)]
)
def test_crowded_labels_are_tilted(names: list[str], angle: int) -> None:
    data = {"x": names, "y": [1.0] * len(names)}
    chart, _ = spec(figure(PlotLayer(mark="bars", data=data), x=CATEGORY), paper=True)
    assert chart["layer"][0]["encoding"]["x"]["axis"]["labelAngle"] == angle


def test_zoom_belongs_to_a_layer_with_both_columns() -> None:
    rule, line = PlotLayer(mark="rule", data={"y": [1.0]}), PlotLayer(mark="line", data=XY)
    chart, _ = spec(figure(rule, line), paper=False)
    assert ["params" in layer for layer in chart["layer"]] == [False, True]
    chart, _ = spec(figure(rule, line), paper=True)
    assert not any("params" in layer for layer in chart["layer"])


def test_large_numbers_have_prefixes_and_workers_are_integers() -> None:
    data = {"x": [1, 2, 4], "y": [1e5, 2e5, 3e5]}
    chart, _ = spec(figure(PlotLayer(mark="line", data=data), y=Axis(title="bytes")), paper=True)
    encoding = chart["layer"][0]["encoding"]
    assert encoding["y"]["axis"]["format"] == "~s" and encoding["x"]["axis"]["tickMinStep"] == 1
