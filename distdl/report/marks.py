"""Marks of a figure's layers: for each kind, a function that returns one or several Vega-Lite layers.

The rows are those of `rows.layer_rows`. Vega-Lite draws layers in order: error bars are under points, but over bars.
"""

from collections.abc import Callable, Sequence

from distdl.core.format import is_number
from distdl.report.axes import OKABE_ITO, Axes, Spec, by_series, color, described_columns, positions, quoted
from distdl.report.content import PlotLayer
from distdl.report.rows import NUMBERED, PlotRow, shows_numbers

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
GRAYS = ("#fafafa", "#8f8f8f")
DARK_TEXT, LIGHT_TEXT = "#111", "#fff"


def line(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> list[Spec]:
    """Connect the rows in their order."""
    encoding = positions(axes) | color(layer, axes) | {"order": {"field": "row", "type": "quantitative"}}
    if axes.has_tiles:  # the color scale belongs to the tiles
        encoding["stroke"] = encoding.pop("color")
    if layer.series:
        encoding["strokeDash"] = by_series(axes, DASHES)
    return [{"mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"}, "encoding": encoding}]


def points(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> list[Spec]:
    """Draw a symbol per row, over the error bar of its interval."""
    encoding = positions(axes) | color(layer, axes)
    if layer.series:
        encoding["shape"] = by_series(axes, SHAPES)
    mark = {"type": "point", "filled": True, "size": 50, "opacity": 1}
    return [*_whiskers(layer, rows, axes), {"mark": mark, "encoding": encoding}]


def bars(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> list[Spec]:
    """Draw a bar per row, at a category or over the cell around its value, with error bars."""
    category_channel, length_channel = axes.category_channel, axes.length_channel
    encoding = _described_positions(layer, axes) | color(layer, axes)
    mark: Spec = {"type": "bar", "cornerRadiusEnd": 0 if layer.stack or layer.start else 2}
    grouped = False
    if category_channel not in axes.categories:
        encoding[category_channel] = encoding[category_channel] | {"field": f"{category_channel}0"}
        encoding[f"{category_channel}2"] = {"field": f"{category_channel}1"}
        encoding[f"{length_channel}2"] = {"datum": 0}
        mark = {"type": "rect", "stroke": "white", "strokeWidth": 0.5}
    elif layer.series and not layer.stack and _has_groups(rows, category_channel):
        grouped = True
        encoding[f"{category_channel}Offset"] = _offset(axes)
    if layer.start:
        encoding[length_channel] = encoding[length_channel] | {"field": "start"}
        encoding[f"{length_channel}2"] = {"field": length_channel}
    else:
        encoding[length_channel] = encoding[length_channel] | {"stack": "zero" if layer.stack else None}
    return [{"mark": mark, "encoding": encoding}, *_whiskers(layer, rows, axes, grouped=grouped)]


def _has_groups(rows: Sequence[PlotRow], category_channel: str) -> bool:
    """Whether some category has bars of more than one series."""
    return len({row[category_channel] for row in rows}) < len({(row[category_channel], row["series"]) for row in rows})


def _offset(axes: Axes) -> Spec:
    return {"field": "series", "scale": {"domain": list(axes.series)}}


def band(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> list[Spec]:
    """Fill the area between `low` and `high`."""
    encoding = positions(axes) | color(layer, axes) | {"y2": {"field": "high"}}
    encoding["y"] = encoding["y"] | {"field": "low"}
    return [{"mark": {"type": "area", "opacity": 0.2}, "encoding": encoding}]


def rule(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> list[Spec]:
    """Draw a dashed horizontal line per row."""
    encoding = _described_positions(layer, axes) | color(layer, axes)
    del encoding["x"]
    if len(axes.series) < 2:
        encoding["color"] = {"value": OKABE_ITO[-1]}
    return [{"mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5}, "encoding": encoding}]


def tiles(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> list[Spec]:
    """Color a cell per row by its value; if there are few cells, they show their numbers."""
    encoding = _described_positions(layer, axes)
    for channel in axes.zoomable:
        encoding[channel] = encoding[channel] | {"field": f"{channel}0"}
        encoding[f"{channel}2"] = {"field": f"{channel}1"}
    # Tiles under curves are gray, because the curves have the colors.
    scale = {"scheme": "viridis"} if len(axes.figure.layers) == 1 else {"range": list(GRAYS)}
    legend = {
        "orient": "right",
        "direction": "vertical",
        "gradientLength": axes.height,
        "title": quoted(layer.value),
    }
    encoding["color"] = {"field": "value", "type": "quantitative", "scale": scale, "legend": legend}
    # Descriptions of thousands of cells would be most of the SVG's size.
    cells = {"mark": {"type": "rect", "aria": len(rows) <= NUMBERED}, "encoding": encoding}
    return [cells, _numbers(rows, axes)] if shows_numbers(rows, axes) else [cells]


def _numbers(rows: Sequence[PlotRow], axes: Axes) -> Spec:
    """The number of each cell, dark on the brighter half of the colors."""
    values = [value for row in rows if is_number(value := row["value"])]
    middle = (min(values) + max(values)) / 2 if values else 0
    ink = {"condition": {"test": {"field": "value", "gt": middle}, "value": DARK_TEXT}, "value": LIGHT_TEXT}
    encoding = positions(axes) | {"text": {"field": "text", "type": "nominal"}, "color": ink}
    return {"mark": {"type": "text", "fontSize": 11}, "encoding": encoding}


def _whiskers(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes, *, grouped: bool = False) -> list[Spec]:
    """Lines from `low` to `high`; none if no row has both."""
    if not (layer.low and layer.high) or all(None in (row["low"], row["high"]) for row in rows):
        return []
    length_channel = axes.length_channel
    base = _described_positions(layer, axes) if layer.mark == "bars" else positions(axes)
    encoding = base | color(layer, axes)
    encoding[length_channel] = encoding[length_channel] | {"field": "low"}
    encoding[f"{length_channel}2"] = {"field": "high"}
    if grouped:
        encoding[f"{axes.category_channel}Offset"] = _offset(axes)
    if layer.mark == "bars":
        encoding["color"] = {"value": axes.ink}
    return [{"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": encoding}]


def _described_positions(layer: PlotLayer, axes: Axes) -> Spec:
    """Positions of a mark with a tooltip. Curves have none: page.js shows the values of the nearest point."""
    columns = described_columns(layer, axes.figure)
    return positions(axes) | {"tooltip": [{"field": short, "title": title} for short, title in columns]}


MARKS: dict[str, Callable[[PlotLayer, Sequence[PlotRow], Axes], list[Spec]]] = {
    "line": line,
    "points": points,
    "bars": bars,
    "band": band,
    "rule": rule,
    "tiles": tiles,
}
"""Function for each kind of mark (content.Layer.mark)."""
