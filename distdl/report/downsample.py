"""Downsampling of long curves: the minimum and the maximum of each group of consecutive rows are drawn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from distdl.core.format import Cell
from distdl.report.content import Figure, PlotLayer

MOST_ROWS = 600
"""Rows per series: more than the pixels of a figure's width can show."""
MOST_TILES = 64
"""Tiles along each axis."""


def downsampled(figure: Figure) -> tuple[Figure, list[str]]:
    """Return the figure with only the rows that are drawn, and a note for each layer that had more."""
    reduced = [_downsampled_layer(layer) for layer in figure.layers]
    layers = tuple(replace(layer, data=data) for layer, (data, _) in zip(figure.layers, reduced, strict=True))
    return replace(figure, layers=layers), list(dict.fromkeys(note for _, note in reduced if note))


def _downsampled_layer(layer: PlotLayer) -> tuple[Mapping[str, Sequence[Cell]], str]:
    """Columns of a layer with only the rows that are drawn, and a note on the others ("" for none).

    Minima and maxima are drawn, so that noise and spikes stay visible, and the first and the last row.
    """
    count = len(next(iter(layer.data.values()), ()))
    if layer.mark == "tiles":
        return _fewer_tiles(layer)
    if layer.mark not in ("line", "points", "band") or count <= MOST_ROWS:
        return layer.data, ""
    low, high = (_numbers(layer.data[name]) for name in (layer.low or layer.y, layer.high or layer.y))
    selected = [row for rows in _series_rows(layer) for row in _extremes(rows, low, high)]
    if len(selected) == count:
        return layer.data, ""
    return _at(
        layer.data, selected
    ), f"{count:,} rows, drawn as minimum and maximum of each group of rows; the CSV has all rows."


def _at(data: Mapping[str, Sequence[Cell]], rows: Sequence[int]) -> dict[str, list[Cell]]:
    return {name: [values[row] for row in rows] for name, values in data.items()}


def _numbers(cells: Sequence[Cell]) -> np.ndarray:
    try:
        return np.array(cells, dtype=float)  # None becomes nan
    except (TypeError, ValueError):
        return np.full(len(cells), np.nan)


def _series_rows(layer: PlotLayer) -> Iterator[np.ndarray]:
    """Row numbers of each series, in order of appearance."""
    if not layer.series:
        yield np.arange(len(layer.data[layer.y]))
        return
    names = [str(cell) for cell in layer.data[layer.series]]
    _, first_rows, series = np.unique(names, return_index=True, return_inverse=True)
    for number in np.argsort(first_rows):
        yield np.flatnonzero(series == number)


def _extremes(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[int]:
    if len(rows) <= MOST_ROWS:
        return rows.tolist()
    selected = {int(rows[0]), int(rows[-1])}
    for group in np.array_split(rows, MOST_ROWS // 2):
        for values, pick in ((low[group], np.nanargmin), (high[group], np.nanargmax)):
            # A group without any number keeps one row, at which the curve is interrupted.
            finite = np.isfinite(values)
            selected.add(int(group[pick(np.where(finite, values, np.nan)) if finite.any() else 0]))
    return sorted(selected)


def _fewer_tiles(layer: PlotLayer) -> tuple[Mapping[str, Sequence[Cell]], str]:
    sides = [dict.fromkeys(layer.data[name]) for name in (layer.x, layer.y)]
    strides = [-(-len(side) // MOST_TILES) for side in sides]
    if max(strides, default=1) <= 1:
        return layer.data, ""
    ranks = [{cell: number for number, cell in enumerate(side)} for side in sides]
    selected = [
        row
        for row, pair in enumerate(zip(layer.data[layer.x], layer.data[layer.y], strict=True))
        if all(rank[cell] % stride == 0 for rank, cell, stride in zip(ranks, pair, strides, strict=True))
    ]
    note = f"Each {max(strides)}th cell of {len(sides[0])} x {len(sides[1])} is drawn; the CSV has all cells."
    return _at(layer.data, selected), note
