"""Small figures of every kind of mark."""

from distdl.core.format import Cell
from distdl.report.content import Axis, Figure, PlotLayer

X, Y, CATEGORY = Axis(title="x"), Axis(title="y"), Axis(title="kind", scale="category")
LOG_X, LOG_Y = Axis(title="x", scale="log"), Axis(title="y", scale="log")
XY: dict[str, list[Cell]] = {
    "x": [1.0, 2.0, 3.0],
    "y": [2.0, 1.0, 4.0],
    "s": ["a", "b", "b"],
    "lo": [1.0, 0.5, 3.0],
    "hi": [3.0, 2.0, 5.0],
}
CELLS: dict[str, list[Cell]] = {"x": [1, 2, 1, 2], "y": [1, 1, 2, 2], "v": [0.1, 0.2, 0.3, 0.4]}
UNEVEN: dict[str, list[Cell]] = {"x": [1.0, 2.0, 4.0], "y": [0, 0, 0], "v": [1, 2, 3]}
NAMED: dict[str, list[Cell]] = {
    "x": ["a", "b", "a", "b"],
    "y": [1.0, 2.0, 3.0, 4.0],
    "s": ["u", "u", "v", "v"],
    "from": [0.0, 1.0, 0.5, 2.0],
}
MARKS: dict[str, tuple[Axis, Axis, PlotLayer, str]] = {
    "line": (X, Y, PlotLayer(mark="line", data=XY, series="s"), "mark-line"),
    "points": (X, Y, PlotLayer(mark="points", data=XY, low="lo", high="hi"), "mark-symbol"),
    "whiskers": (X, Y, PlotLayer(mark="points", data=XY, low="lo", high="hi", series="s"), "mark-rule"),
    "band": (X, Y, PlotLayer(mark="band", data=XY, low="lo", high="hi"), "mark-area"),
    "rule": (X, Y, PlotLayer(mark="rule", data={"y": [1.0]}), "mark-rule"),
    "bars": (CATEGORY, Y, PlotLayer(mark="bars", data=NAMED, series="s"), "mark-rect"),
    "stacked": (CATEGORY, Y, PlotLayer(mark="bars", data=NAMED, series="s", stack=True), "mark-rect"),
    "floating": (CATEGORY, Y, PlotLayer(mark="bars", data=NAMED, start="from"), "mark-rect"),
    "histogram": (X, Y, PlotLayer(mark="bars", data=XY), "mark-rect"),
    "lying": (X, CATEGORY, PlotLayer(mark="bars", data=NAMED, x="y", y="x"), "mark-rect"),
    "tiles": (X, Y, PlotLayer(mark="tiles", data=CELLS, value="v"), "mark-rect"),
    "uneven tiles": (LOG_X, Y, PlotLayer(mark="tiles", data=UNEVEN, value="v"), "mark-rect"),
    "named tiles": (CATEGORY, CATEGORY, PlotLayer(mark="tiles", data=CELLS, value="v"), "mark-text"),
    "log": (LOG_X, LOG_Y, PlotLayer(mark="line", data=XY), "mark-line"),
    "log tiles": (LOG_X, Y, PlotLayer(mark="tiles", data=CELLS, value="v"), "mark-rect"),
}
"""Axes, layer, and the class of the SVG group that contains the mark."""


def figure(*layers: PlotLayer, x: Axis = X, y: Axis = Y) -> Figure:
    """A figure with a title and a caption."""
    return Figure(name="f", title="A title", x=x, y=y, layers=layers, caption="A caption.")
