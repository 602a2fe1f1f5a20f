"""A Figure as a Vega-Lite specification: for the page, with hover and zoom, or for SVG and PNG files."""

import textwrap
from collections.abc import Sequence
from typing import TypedDict

from distdl.core.errors import shortened
from distdl.report.axes import Spec, described_columns, shared_axes
from distdl.report.content import Figure
from distdl.report.marks import MARKS
from distdl.report.rows import layer_edges, layer_rows

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH = 640
"""Pixels of a figure on paper."""
CAPTION, CAPTION_LINE = 2000, 105
"""Largest length of a caption on paper, and of its lines, in characters; the page has the complete caption."""
PAPER_INK = "#222222"
LEGEND_CHARACTER, LEGEND_SYMBOL = 6.4, 44
"""Pixels of a legend's entry: per character, and for the symbol and the gaps."""
SIDE_LABELS, SIDE_LEGEND = 60, 150
"""Pixels at the sides of a plot: for the labels of the y axis; for these and the legend of tile colors."""


class PageLayer(TypedDict):
    """A layer, for the tooltips that page.js shows."""

    rows: str
    """Name of its data set in the specification."""
    mark: str
    columns: list[tuple[str, str]]
    """Short name and title of each column."""


class PageMeta(TypedDict):
    """Values for page.js, in the specification as `usermeta`."""

    legend_width: int
    """Pixels of the longest entry of the legend."""
    side_width: int
    """Pixels at the sides of the plot, not available to the legend."""
    layers: list[PageLayer]


def spec(figure: Figure, notes: Sequence[str] = (), *, paper: bool) -> tuple[Spec, list[str]]:
    """Return the specification, and notes on the data that it does not show.

    Args:
        figure: figure that `downsample.downsampled` returns, without rows that are too many to draw.
        notes: notes on the rows that were removed from `figure`.
        paper: fixed size, title and caption inside, colors for a white page. Otherwise as wide as its element in the
            page, in the color of the text around it, with tooltips and zoom.
    """
    axes = shared_axes(figure, PAPER_INK if paper else "currentColor")
    datasets, layers = {}, []
    meta = PageMeta(
        legend_width=round(max((len(name) for name in axes.series), default=0) * LEGEND_CHARACTER + LEGEND_SYMBOL),
        side_width=SIDE_LEGEND if axes.has_tiles else SIDE_LABELS,
        layers=[],
    )
    notes = list(notes)
    for index, layer in enumerate(figure.layers):
        name = f"rows{index}"
        rows, note = layer_rows(layer, axes)
        datasets[name] = rows
        notes += [note] if note else []
        shared: Spec = {"data": {"name": name}}
        if transforms := [step for edges in layer_edges(layer, rows, axes).values() for step in edges.transforms]:
            shared["transform"] = transforms
        layers += [shared | mark for mark in MARKS[layer.mark](layer, rows, axes)]
        meta["layers"].append({"rows": name, "mark": layer.mark, "columns": described_columns(layer, figure)})
    if not paper:
        layers = _with_zoom(layers, axes.zoomable)
    notes = list(dict.fromkeys(notes))
    chart: Spec = {
        "$schema": SCHEMA,
        "width": WIDTH if paper else "container",
        "height": axes.height,
        "autosize": {"type": "pad" if paper else "fit-x", "contains": "padding"},
        "config": _config(axes.ink, paper=paper),
        "datasets": datasets,
        "layer": layers,
    }
    if paper:
        caption = shortened(" ".join([figure.caption, *notes]).strip(), CAPTION)
        subtitle = textwrap.wrap(caption, CAPTION_LINE)
        chart["title"] = {"text": figure.title, "subtitle": subtitle, "anchor": "start", "offset": 12}
        chart["background"] = "white"
        chart["config"]["legend"]["columns"] = max(WIDTH // meta["legend_width"], 1)
    return chart | {"usermeta": meta}, notes


def _with_zoom(layers: Sequence[Spec], channels: list[str]) -> list[Spec]:
    """Add the zoom to the first layer with a column on each numeric axis, which a horizontal line does not have."""
    has_columns = [all("field" in layer["encoding"].get(channel, {}) for channel in channels) for layer in layers]
    if not channels or True not in has_columns:
        return list(layers)
    # Without Ctrl the wheel scrolls the page, as usual.
    wheel = "wheel![event.ctrlKey || event.metaKey]"
    select = {"type": "interval", "encodings": channels, "zoom": wheel}
    first = has_columns.index(True)
    zoomed = layers[first] | {"params": [{"name": "zoom", "bind": "scales", "select": select}]}
    return [*layers[:first], zoomed, *layers[first + 1 :]]


def _config(ink: str, *, paper: bool) -> Spec:
    quiet = {"domainColor": ink, "domainOpacity": 0.4, "tickColor": ink, "tickOpacity": 0.4, "tickSize": 4}
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
    grid = {"gridColor": ink, "gridOpacity": 0.12, "labelLimit": 260}
    above = {
        "titleAngle": 0,
        "titleAlign": "left",
        "titleAnchor": "end",
        "titleY": -10,
        "titleX": 0,
        "titleBaseline": "bottom",
    }
    return {
        "background": "white" if paper else "transparent",
        "font": "sans-serif" if paper else "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": quiet | text | grid,
        "axisY": above | {"domain": False, "ticks": False},
        "axisX": {"grid": False},
        "legend": {
            "orient": "top",
            "labelColor": ink,
            "labelFontSize": 11,
            "labelLimit": 300,
            "symbolSize": 90,
            "offset": 28,
            "symbolStrokeWidth": 2,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "titleFontSize": 11,
            "symbolLimit": 60,
        },
        "title": {
            "color": ink,
            "subtitleColor": ink,
            "fontSize": 14,
            "fontWeight": 600,
            "subtitleFontSize": 11,
            "subtitlePadding": 6,
        },
        "text": {"color": ink},
    }
