"""Long curves made short enough to draw: of each stretch of rows the lowest and the highest stay."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from distdl.core.format import Cell
from distdl.report.content import Figure, Layer

MOST_ROWS = 600
"""Of one series: more than the pixels of a figure's width can show."""
MOST_TILES = 64
"""Along each side."""


def drawn(figure: Figure) -> tuple[Figure, list[str]]:
    """The figure with the rows that are drawn, and a sentence for each layer that had more."""
    found = [thinned(layer) for layer in figure.layers]
    layers = tuple(replace(layer, data=data) for layer, (data, _) in zip(figure.layers, found, strict=True))
    return replace(figure, layers=layers), list(dict.fromkeys(note for _, note in found if note))


def thinned(layer: Layer) -> tuple[Mapping[str, Sequence[Cell]], str]:
    """A layer's columns as they are drawn, and what was left out, in a sentence ("" for nothing).

    The extremes of a curve, and so its noise and its spikes, are kept; first and last row too.
    """
    whole = len(next(iter(layer.data.values()), ()))
    if layer.mark == "tiles":
        return _fewer_tiles(layer)
    if layer.mark not in ("line", "points", "band") or whole <= MOST_ROWS:
        return layer.data, ""
    ends = [_numbers(layer.data[name]) for name in (layer.low or layer.y, layer.high or layer.y)]
    kept = [row for rows in _series_rows(layer) for row in _extremes(rows, *ends)]
    if len(kept) == whole:
        return layer.data, ""
    data = {name: [values[row] for row in kept] for name, values in layer.data.items()}
    return data, f"{whole:,} rows, drawn by the lowest and the highest of each stretch; the CSV has all."


def _numbers(cells: Sequence[Cell]) -> np.ndarray:
    try:
        return np.array(cells, dtype=float)  # a None becomes nan
    except (TypeError, ValueError):
        return np.full(len(cells), np.nan)


def _series_rows(layer: Layer) -> Iterator[np.ndarray]:
    if not layer.series:
        yield np.arange(len(layer.data[layer.y]))
        return
    _, first, which = np.unique(
        [str(cell) for cell in layer.data[layer.series]], return_index=True, return_inverse=True
    )
    for number in np.argsort(first):
        yield np.flatnonzero(which == number)


def _extremes(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[int]:
    if len(rows) <= MOST_ROWS:
        return rows.tolist()
    kept = {int(rows[0]), int(rows[-1])}
    for stretch in np.array_split(rows, MOST_ROWS // 2):
        for values, pick in ((low[stretch], np.nanargmin), (high[stretch], np.nanargmax)):
            # A stretch without any number stays as one row: the curve breaks there.
            finite = np.isfinite(values)
            kept.add(int(stretch[pick(np.where(finite, values, np.nan)) if finite.any() else 0]))
    return sorted(kept)


def _fewer_tiles(layer: Layer) -> tuple[Mapping[str, Sequence[Cell]], str]:
    sides = [dict.fromkeys(layer.data[name]) for name in (layer.x, layer.y)]
    strides = [-(-len(side) // MOST_TILES) for side in sides]
    if max(strides, default=1) <= 1:
        return layer.data, ""
    places = [{cell: number for number, cell in enumerate(side)} for side in sides]
    kept = [
        row
        for row, pair in enumerate(zip(layer.data[layer.x], layer.data[layer.y], strict=True))
        if all(place[cell] % stride == 0 for place, cell, stride in zip(places, pair, strides, strict=True))
    ]
    data = {name: [values[row] for row in kept] for name, values in layer.data.items()}
    return data, f"Each {max(strides)}th cell of {len(sides[0])} x {len(sides[1])} is drawn; the CSV has all."
