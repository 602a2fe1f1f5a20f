"""Rows of a figure's layers as Vega-Lite reads them, under short names."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from distdl.core.format import Cell, is_number, written
from distdl.report.axes import Axes, Spec, has_column
from distdl.report.content import Figure, PlotLayer

PlotRow = dict[str, Cell]

NUMBERED = 80
"""Largest number of tiles that show their numbers."""
HALF, OVERLAPPING_HALF = 0.5, 0.53
"""Half of a cell, as a share of the distance between cells. Tiles overlap a little: antialiased edges that only touch
leave a visible seam."""
EQUAL = 0.02
"""Relative difference between distances up to which they count as equal."""


class Edges(NamedTuple):
    """Start and end of the cell around each value of an axis, half way to its neighbors."""

    transforms: Sequence[Spec]
    """For cells of equal size: Vega-Lite computes their edges, which keeps the rows short."""
    bounds: Mapping[float, tuple[float, float]]
    """For other cells: (start, end) by value."""


def layer_rows(layer: PlotLayer, axes: Axes) -> tuple[list[PlotRow], str]:
    """Return the rows of a layer, and a sentence on omitted values ("" for none).

    Columns get short names, so that column names from users are never part of an expression.
    """
    rows, note = _measured_rows(layer, axes.figure)
    return [row | columns for row, columns in zip(rows, _derived(layer, rows, axes), strict=True)], note


def _measured_rows(layer: PlotLayer, figure: Figure) -> tuple[list[PlotRow], str]:
    names = _short_names(layer)
    log_scaled = [
        short
        for axis, shorts in ((figure.x, ("x",)), (figure.y, ("y", "low", "high")))
        for short in shorts
        if axis.scale == "log" and short in names
    ]
    texts = {"series"} | {channel for channel in ("x", "y") if getattr(figure, channel).scale == "category"}
    numbers = {"x", "y", "low", "high", "value", "start"} - texts
    rows, dropped = [], 0
    for cells in zip(*(layer.data[name] for name in names.values()), strict=True):
        row = {short: _cell(cell, text=short in texts) for short, cell in zip(names, cells, strict=True)}
        row |= {short: None for short in numbers & row.keys() if not is_number(row[short])}
        no_logarithm = [short for short in log_scaled if is_number(value := row[short]) and not value > 0]
        dropped += bool(no_logarithm)
        row |= dict.fromkeys(no_logarithm)
        if layer.mark == "line" or all(row[short] is not None for short in ("x", "y") if short in row):
            rows.append(row)
    return rows, f"{dropped:,} values that are not above 0 are not shown on the logarithmic axis." if dropped else ""


def _short_names(layer: PlotLayer) -> dict[str, str]:
    """Short name -> column, of the columns that a layer has."""
    names = {"x": layer.x, "y": layer.y, "low": layer.low, "high": layer.high, "value": layer.value}
    names |= {"start": layer.start, "series": layer.series}
    names = {short: name for short, name in names.items() if name in layer.data}
    if not has_column(layer, "x"):
        names.pop("x", None)
    others = [name for name in layer.data if name not in names.values()]
    return names | {f"other{index}": name for index, name in enumerate(others)}


def _cell(cell: Cell, *, text: bool) -> Cell:
    if text:
        return written(cell)
    if isinstance(cell, float):
        return float(f"{cell:.6g}") if math.isfinite(cell) else None
    return cell


def _derived(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> Iterator[PlotRow]:
    """Additional columns of each row: its number in a line, its text in a tile, the edges of its cell."""
    bounds = {channel: edges.bounds for channel, edges in layer_edges(layer, rows, axes).items() if edges.bounds}
    for number, row in enumerate(rows):
        columns: PlotRow = {}
        if layer.mark == "line":
            columns["row"] = number
        if layer.mark == "tiles" and shows_numbers(rows, axes):
            columns["text"] = written(row["value"])
        for channel, by_value in bounds.items():
            if is_number(value := row[channel]):
                columns[f"{channel}0"], columns[f"{channel}1"] = by_value[value]
        yield columns


def shows_numbers(rows: Sequence[PlotRow], axes: Axes) -> bool:
    """Whether tiles show their numbers: few of them, in a table of categories, with nothing else in the figure."""
    return len(rows) <= NUMBERED and set(axes.categories) == {"x", "y"} and len(axes.figure.layers) == 1


def layer_edges(layer: PlotLayer, rows: Sequence[PlotRow], axes: Axes) -> dict[str, Edges]:
    """Edges of a layer's cells by channel: both channels for tiles, the category channel for bars."""
    channels = {"tiles": ("x", "y"), "bars": (axes.category_channel,)}.get(layer.mark, ())
    half = OVERLAPPING_HALF if layer.mark == "tiles" else HALF
    return {
        channel: _edges([row[channel] for row in rows], channel, log=_is_log(axes.figure, channel), half=half)
        for channel in channels
        if channel not in axes.categories
    }


def _is_log(figure: Figure, channel: str) -> bool:
    return getattr(figure, channel).scale == "log"


def _edges(cells: Sequence[Cell], channel: str, *, log: bool, half: float) -> Edges:
    values = sorted({cell for cell in cells if is_number(cell)})
    if not values:
        return Edges([], {})
    centers = [math.log(value) for value in values] if log else values
    gaps = [upper - lower for lower, upper in itertools.pairwise(centers)] or [1.0]
    if max(gaps) - min(gaps) < EQUAL * max(gaps):
        width = half * sum(gaps) / len(gaps)
        ends = [f"/ {math.exp(width):.6g}", f"* {math.exp(width):.6g}"] if log else [f"- {width:.6g}", f"+ {width:.6g}"]
        return Edges([{"calculate": f"datum.{channel} {end}", "as": f"{channel}{i}"} for i, end in enumerate(ends)], {})
    between = [center + gap / 2 for center, gap in zip(centers, gaps, strict=False)]
    edges = [centers[0] - gaps[0] / 2, *between, centers[-1] + gaps[-1] / 2]
    rounded = [float(f"{math.exp(edge) if log else edge:.6g}") for edge in edges]
    return Edges([], dict(zip(values, itertools.pairwise(rounded), strict=True)))
