"""Axes, colors and series that all layers of a figure share, as Vega-Lite encodings."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distdl.core.format import Cell, is_number, written
from distdl.report.content import Axis, Figure, PlotLayer

Spec = dict[str, Any]
"""Part of a Vega-Lite specification."""

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito 2008, distinguishable with color blindness, without yellow and black, each of which is hard to see on
one of the two backgrounds."""
COLORS = (*OKABE_ITO, "#80B9D9", "#EAAF80", "#80CFB9", "#E6BCD3", "#F2CF80", "#2B5A75", "#C6C6C6")
"""For more than seven series: the same colors, paler."""
HEIGHT, MIN_HEIGHT, BAR_HEIGHT = 260, 80, 26
"""Pixels: of a figure; of a figure with categories on the y axis, at least and per category."""
LABEL_CHARACTER = 6.3
"""Mean width of a character of an axis label, in pixels."""
CROWDED_WIDTH = 460
"""Total width of labels in pixels above which they are tilted: the width of a figure in a page of two columns."""
TILT = -35
"""Angle of crowded labels, in degrees."""
LARGE = 1e5
"""Axes with numbers of at least this size are labeled with SI prefixes."""
POINT_PADDING = 10
"""Pixels between the outermost points and the ends of an axis."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Scales of a figure that its layers share."""

    figure: Figure
    ink: str
    """Color of text and lines."""
    series: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    """Categories in order, by channel (x, y), of the axes that have categories."""

    @property
    def height(self) -> int:
        """Height of the plot in pixels."""
        return max(BAR_HEIGHT * len(self.categories["y"]), MIN_HEIGHT) if "y" in self.categories else HEIGHT

    @property
    def has_tiles(self) -> bool:
        return any(layer.mark == "tiles" for layer in self.figure.layers)

    @property
    def category_channel(self) -> str:
        """Channel (x or y) along which bars are placed side by side."""
        return "y" if "y" in self.categories and "x" not in self.categories else "x"

    @property
    def length_channel(self) -> str:
        """Channel (x or y) of the length of bars."""
        return "x" if self.category_channel == "y" else "y"

    @property
    def zoomable(self) -> list[str]:
        """Channels with a numeric axis."""
        return [channel for channel in ("x", "y") if channel not in self.categories]


def shared_axes(figure: Figure, ink: str) -> Axes:
    """Return the axes of a figure, with series and categories in order of appearance."""
    categories = {}
    for channel, axis in (("x", figure.x), ("y", figure.y)):
        if axis.scale == "category":
            columns = [layer.data[getattr(layer, channel)] for layer in figure.layers if has_column(layer, channel)]
            categories[channel] = _distinct([axis.order, *columns])
    series = _distinct(layer.data[layer.series] for layer in figure.layers if layer.series)
    return Axes(figure=figure, ink=ink, series=series, categories=categories)


def has_column(layer: PlotLayer, channel: str) -> bool:
    """Whether a layer has values for the channel; a rule goes across the whole figure and has none for x."""
    return getattr(layer, channel) in layer.data and not (layer.mark == "rule" and channel == "x")


def _distinct(columns: Iterable[Sequence[Cell]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(written(cell) for column in columns for cell in column))


def quoted(title: str) -> str:
    """Escape a title for Vega-Lite, which puts titles into expressions without escaping backslashes."""
    return title.replace("\\", "\N{SET MINUS}")


def positions(axes: Axes) -> Spec:
    """Encodings of x and y."""
    return {
        "x": _position("x", axes.figure.x, axes),
        "y": _position("y", axes.figure.y, axes),
    }


def _position(channel: str, axis: Axis, axes: Axes) -> Spec:
    if axis.scale == "category":
        kind, scale, labels = "nominal", {"domain": list(axes.categories[channel])}, _category_labels(channel, axes)
    else:
        kind, scale, labels = "quantitative", _scale(channel, axis, axes), _number_labels(channel, axis, axes)
    return {"field": channel, "type": kind, "title": quoted(axis.title), "scale": scale, "axis": labels}


def _category_labels(channel: str, axes: Axes) -> Spec:
    if channel == "y":
        return {"grid": False}
    names = axes.categories[channel]
    crowded = len(names) * max(map(len, names), default=0) * LABEL_CHARACTER > CROWDED_WIDTH
    return {"grid": False} | ({"labelAngle": TILT, "labelAlign": "right"} if crowded else {"labelAngle": 0})


def _scale(channel: str, axis: Axis, axes: Axes) -> Spec:
    marks = {layer.mark for layer in axes.figure.layers}
    scale: Spec = {"type": axis.scale}
    if axis.scale == "log":
        scale["nice"] = False
    else:
        is_length = channel == axes.length_channel and "bars" in marks
        scale |= {"zero": is_length, "nice": is_length or (channel == "y" and not axes.has_tiles)}
    if not scale["nice"] and "points" in marks:
        scale["padding"] = POINT_PADDING
    return scale


def _number_labels(channel: str, axis: Axis, axes: Axes) -> Spec:
    if axis.scale == "log":
        is_power = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
        opacity = {"condition": {"test": is_power, "value": 1}, "value": 0.3}
        return {"format": "~g", "labelOverlap": "greedy", "tickCount": 6, "gridOpacity": opacity}
    numbers = list(_numbers(channel, axes.figure))
    labels: Spec = {"tickCount": 6 if channel == "y" else 8}
    if max(map(abs, numbers), default=0) >= LARGE:
        labels["format"] = "~s"
    if channel == "x" and all(float(number).is_integer() for number in numbers):
        labels["tickMinStep"] = 1  # such as numbers of workers
    return labels


def _numbers(channel: str, figure: Figure) -> Iterator[float]:
    for layer in figure.layers:
        for cell in layer.data[getattr(layer, channel)] if has_column(layer, channel) else ():
            if is_number(cell) and math.isfinite(cell):
                yield cell


def color(layer: PlotLayer, axes: Axes) -> Spec:
    """Encoding of a layer's color: by its series, or the first color."""
    return {"color": by_series(axes, COLORS) if layer.series else {"value": COLORS[0]}}


def by_series(axes: Axes, values: Sequence[Any]) -> Spec:
    """Encoding that assigns the values to the series, cyclically if there are more series than values."""
    cycle = [values[index % len(values)] for index in range(len(axes.series))]
    scale = {"domain": list(axes.series), "range": cycle}
    # A single series needs no legend: the title names it.
    legend: Spec = {"legend": None} if len(axes.series) < 2 else {}
    return {"field": "series", "type": "nominal", "title": None, "scale": scale, **legend}


def described_columns(layer: PlotLayer, figure: Figure) -> list[tuple[str, str]]:
    """Short name and title of each column of a tooltip."""
    titles = {"series": layer.series, "x": figure.x.title or layer.x, "y": figure.y.title or layer.y}
    titles |= {"low": layer.low, "high": layer.high, "value": layer.value, "start": layer.start}
    used = {layer.x, layer.y, layer.low, layer.high, layer.value, layer.series, layer.start}
    others = [name for name in layer.data if name not in used]
    titles |= {f"other{index}": name for index, name in enumerate(others)}
    if layer.mark in ("rule", "band"):
        titles.pop("x" if layer.mark == "rule" else "y")
    return [(short, quoted(title)) for short, title in titles.items() if title]
