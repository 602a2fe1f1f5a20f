"""Marks of a figure's layers: for each kind, a function that gives one or several Vega-Lite layers.

The rows are those of `rows.layer_rows`. Vega-Lite draws the layers in order: whiskers are under points, but over bars.
"""

from collections.abc import Callable, Sequence

from distdl.core.format import is_number
from distdl.report.axes import OKABE_ITO, Axes, Spec, by_series, colour, described_columns, positions, quoted
from distdl.report.content import Layer
from distdl.report.rows import NUMBERED, Row, shows_numbers

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
GREYS = ("#fafafa", "#8f8f8f")
DARK_TEXT, LIGHT_TEXT = "#111", "#fff"


def line(layer: Layer, rows: Sequence[Row], axes: Axes) -> list[Spec]:
    """Join the rows in their order."""
    encoding = positions(axes) | colour(layer, axes) | {"order": {"field": "row", "type": "quantitative"}}
    if axes.has_tiles:  # the colour scale belongs to the tiles
        encoding["stroke"] = encoding.pop("color")
    if layer.series:
        encoding["strokeDash"] = by_series(axes, DASHES)
    return [{"mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"}, "encoding": encoding}]


def points(layer: Layer, rows: Sequence[Row], axes: Axes) -> list[Spec]:
    """Show a symbol per row, over the whiskers of its interval."""
    encoding = positions(axes) | colour(layer, axes)
    if layer.series:
        encoding["shape"] = by_series(axes, SHAPES)
    mark = {"type": "point", "filled": True, "size": 50, "opacity": 1}
    return [*_whiskers(layer, rows, axes), {"mark": mark, "encoding": encoding}]


def bars(layer: Layer, rows: Sequence[Row], axes: Axes) -> list[Spec]:
    """Show a bar per row, over a category or over the cell around its value, with whiskers."""
    along, across = axes.along, axes.across
    encoding = _described_positions(layer, axes) | colour(layer, axes)
    mark: Spec = {"type": "bar", "cornerRadiusEnd": 0 if layer.stack or layer.start else 2}
    grouped = False
    if along not in axes.categories:
        encoding[along] = encoding[along] | {"field": f"{along}0"}
        encoding[f"{along}2"] = {"field": f"{along}1"}
        encoding[f"{across}2"] = {"datum": 0}
        mark = {"type": "rect", "stroke": "white", "strokeWidth": 0.5}
    elif layer.series and not layer.stack and _has_groups(rows, along):
        grouped = True
        encoding[f"{along}Offset"] = _offset(axes)
    if layer.start:
        encoding[across] = encoding[across] | {"field": "start"}
        encoding[f"{across}2"] = {"field": across}
    else:
        encoding[across] = encoding[across] | {"stack": "zero" if layer.stack else None}
    return [{"mark": mark, "encoding": encoding}, *_whiskers(layer, rows, axes, grouped=grouped)]


def _has_groups(rows: Sequence[Row], along: str) -> bool:
    """Whether some category has bars of more than one series."""
    return len({row[along] for row in rows}) < len({(row[along], row["series"]) for row in rows})


def _offset(axes: Axes) -> Spec:
    return {"field": "series", "scale": {"domain": list(axes.series)}}


def band(layer: Layer, rows: Sequence[Row], axes: Axes) -> list[Spec]:
    """Fill the area between `low` and `high`."""
    encoding = positions(axes) | colour(layer, axes) | {"y2": {"field": "high"}}
    encoding["y"] = encoding["y"] | {"field": "low"}
    return [{"mark": {"type": "area", "opacity": 0.2}, "encoding": encoding}]


def rule(layer: Layer, rows: Sequence[Row], axes: Axes) -> list[Spec]:
    """Draw a dashed horizontal line per row."""
    encoding = _described_positions(layer, axes) | colour(layer, axes)
    del encoding["x"]
    if len(axes.series) < 2:
        encoding["color"] = {"value": OKABE_ITO[-1]}
    return [{"mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5}, "encoding": encoding}]


def tiles(layer: Layer, rows: Sequence[Row], axes: Axes) -> list[Spec]:
    """Colour a cell per row by its value; few cells show their numbers."""
    encoding = _described_positions(layer, axes)
    for channel in axes.zoomable:
        encoding[channel] = encoding[channel] | {"field": f"{channel}0"}
        encoding[f"{channel}2"] = {"field": f"{channel}1"}
    # Under curves, which have the colours, tiles are grey.
    scale = {"scheme": "viridis"} if len(axes.figure.layers) == 1 else {"range": list(GREYS)}
    legend = {
        "orient": "right",
        "direction": "vertical",
        "gradientLength": axes.height,
        "title": quoted(layer.value),
    }
    encoding["color"] = {"field": "value", "type": "quantitative", "scale": scale, "legend": legend}
    # A description of each of thousands of cells would be most of the SVG.
    cells = {"mark": {"type": "rect", "aria": len(rows) <= NUMBERED}, "encoding": encoding}
    return [cells, _numbers(rows, axes)] if shows_numbers(rows, axes) else [cells]


def _numbers(rows: Sequence[Row], axes: Axes) -> Spec:
    """Each cell's number in it, dark on the brighter half of the colours."""
    values = [value for row in rows if is_number(value := row["value"])]
    middle = (min(values) + max(values)) / 2 if values else 0
    ink = {"condition": {"test": {"field": "value", "gt": middle}, "value": DARK_TEXT}, "value": LIGHT_TEXT}
    encoding = positions(axes) | {"text": {"field": "text", "type": "nominal"}, "color": ink}
    return {"mark": {"type": "text", "fontSize": 11}, "encoding": encoding}


def _whiskers(layer: Layer, rows: Sequence[Row], axes: Axes, *, grouped: bool = False) -> list[Spec]:
    """Lines from `low` to `high`; none if no row has both."""
    if not (layer.low and layer.high) or all(None in (row["low"], row["high"]) for row in rows):
        return []
    across = axes.across
    base = _described_positions(layer, axes) if layer.mark == "bars" else positions(axes)
    encoding = base | colour(layer, axes)
    encoding[across] = encoding[across] | {"field": "low"}
    encoding[f"{across}2"] = {"field": "high"}
    if grouped:
        encoding[f"{axes.along}Offset"] = _offset(axes)
    if layer.mark == "bars":
        encoding["color"] = {"value": axes.ink}
    return [{"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": encoding}]


def _described_positions(layer: Layer, axes: Axes) -> Spec:
    """Positions of a mark that is described when the pointer is on it. Of a curve, the nearest point is described."""
    columns = described_columns(layer, axes.figure)
    return positions(axes) | {"tooltip": [{"field": short, "title": title} for short, title in columns]}


MARKS: dict[str, Callable[[Layer, Sequence[Row], Axes], list[Spec]]] = {
    "line": line,
    "points": points,
    "bars": bars,
    "band": band,
    "rule": rule,
    "tiles": tiles,
}
"""Function of each kind of mark (content.Layer.mark)."""
