"""Figures and pictures as files: NAME.svg, NAME.png and NAME.csv. Drawn by Vega-Lite, without a browser."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distdl.errors import missing
from distdl.report.chart import Spec, spec
from distdl.report.content import Cell, Figure, Table
from distdl.rundir import write_atomic

SCALE = 2.0
"""Pixels of the PNG for each of the figure's: sharp on paper."""


def converter() -> Any:
    """The package that draws.

    Raises:
        UserError: it is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise missing("vl-convert-python", "report") from None
    return vl_convert


def svg(figure: Figure) -> str:
    """The figure on white paper, as SVG."""
    drawn, _ = spec(figure, paper=True)
    return _svg(drawn)


def _svg(drawn: Spec) -> str:
    return converter().vegalite_to_svg(drawn)


def png(drawn_svg: str) -> bytes:
    """An SVG as PNG."""
    return converter().svg_to_png(drawn_svg, scale=SCALE)


def write_figure(figure: Figure, folder: Path) -> list[str]:
    """Write the figure's SVG, PNG and CSV into `folder`. Returns their names."""
    drawn = svg(figure)
    contents = {
        f"{figure.name}.svg": drawn.encode(),
        f"{figure.name}.png": png(drawn),
        f"{figure.name}.csv": figure_csv(figure).encode(),
    }
    for name, content in contents.items():
        write_atomic(folder / name, lambda sink, content=content: sink.write(content))
    return list(contents)


def write_table(table: Table, folder: Path) -> list[str]:
    """Write the table's CSV. Returns its name."""
    text = _csv(iter([table.columns, *table.rows]))
    write_atomic(folder / f"{table.name}.csv", lambda sink: sink.write(text.encode()))
    return [f"{table.name}.csv"]


def figure_csv(figure: Figure) -> str:
    """All rows of all layers, unrounded; with several layers the first column says which a row is of."""
    return _csv(_figure_rows(figure))


def _figure_rows(figure: Figure) -> Iterator[tuple[Cell, ...]]:
    distinct: list[tuple[str, Any]] = []
    for layer in figure.layers:
        if all(layer.data is not data for _, data in distinct):
            distinct.append((layer.mark, layer.data))
    if len(distinct) == 1:
        _, data = distinct[0]
        yield tuple(data)
        yield from zip(*data.values(), strict=True)
        return
    columns = list(dict.fromkeys(name for _, data in distinct for name in data))
    yield ("layer", *columns)
    for mark, data in distinct:
        count = len(next(iter(data.values()), ()))
        filled = [data.get(name, [None] * count) for name in columns]
        yield from ((mark, *cells) for cells in zip(*filled, strict=True))


def _csv(rows: Iterator[tuple[Cell, ...]]) -> str:
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator="\n").writerows(rows)
    return sink.getvalue()
