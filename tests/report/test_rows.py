"""Rows of a figure's layers: values without a position are omitted, cells have edges."""

import math

import pytest

from distdl.report.content import Axis, PlotLayer
from distdl.report.figure_files import svg
from distdl.report.vega_lite import spec
from figures import LOG_X, UNEVEN, figure


def test_values_without_a_logarithm_are_omitted_with_a_note() -> None:
    layer = PlotLayer(mark="line", data={"x": [1, 2, 3, 4], "y": [1.0, 0.0, -1.0, 2.0]})
    chart, notes = spec(figure(layer, y=Axis(title="y", scale="log")), paper=True)
    assert [row["y"] for row in chart["datasets"]["rows0"]] == [1.0, None, None, 2.0]
    assert notes == ["2 values that are not above 0 are not shown on the logarithmic axis."]
    assert notes[0] in svg(figure(layer, y=Axis(title="y", scale="log")))


def test_nan_breaks_a_line_and_is_omitted_from_points() -> None:
    data = {"x": [1, 2, 3, 4], "y": [1.0, math.nan, math.inf, None]}
    line, _ = spec(figure(PlotLayer(mark="line", data=data)), paper=False)
    points, _ = spec(figure(PlotLayer(mark="points", data=data)), paper=False)
    assert [row["y"] for row in line["datasets"]["rows0"]] == [1.0, None, None, None]
    assert len(points["datasets"]["rows0"]) == 1


def test_edges_of_unevenly_spaced_tiles_are_midpoints() -> None:
    cells = {"x": [1.0, 2.0, 4.0], "y": [0, 0, 0], "v": [1, 2, 3]}
    chart, _ = spec(figure(PlotLayer(mark="tiles", data=cells, value="v")), paper=True)
    assert [(row["x0"], row["x1"]) for row in chart["datasets"]["rows0"]] == [(0.5, 1.5), (1.5, 3.0), (3.0, 5.0)]


def test_edges_on_a_log_axis_are_geometric_means() -> None:
    chart, _ = spec(
        figure(PlotLayer(mark="tiles", data=UNEVEN | {"x": [1.0, 4.0, 64.0]}, value="v"), x=LOG_X), paper=True
    )
    edges = [(row["x0"], row["x1"]) for row in chart["datasets"]["rows0"]]
    assert edges == [pytest.approx(pair) for pair in [(0.5, 2.0), (2.0, 16.0), (16.0, 256.0)]]


def test_edges_of_evenly_spaced_tiles_are_computed_by_vega_lite() -> None:
    data = {"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0]}
    chart, _ = spec(figure(PlotLayer(mark="bars", data=data)), paper=True)
    assert chart["layer"][0]["transform"] == [
        {"calculate": "datum.x - 0.5", "as": "x0"},
        {"calculate": "datum.x + 0.5", "as": "x1"},
    ]
    assert chart["datasets"]["rows0"][0] == {"x": 1.0, "y": 1.0}
