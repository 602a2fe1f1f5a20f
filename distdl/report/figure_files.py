"""Figures and pictures as files: NAME.svg, NAME.png and NAME.csv. Drawn by Vega-Lite, without a browser."""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from distdl.core.errors import missing, shortened
from distdl.core.format import Cell
from distdl.report.content import Figure, Table
from distdl.report.vega_lite import spec

_PATH, _DIGITS = re.compile(r' d="[^"]*"'), re.compile(r"(\.\d\d)\d+")
_BEYOND = re.compile("[\U00010000-\U0010ffff]")
SHORT = 10
"""Characters of a label that is never cut, however wide they are."""
SCALE = 1.6
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


def svg(figure: Figure, notes: Sequence[str] = ()) -> str:
    """The figure on white paper, as SVG. Rows and `notes` as `thin.drawn` gives them."""
    on_paper, _ = spec(figure, notes, paper=True)
    on_paper = _cuttable(on_paper)
    # A hundredth of a pixel is enough: half the bytes.
    return _PATH.sub(lambda path: _DIGITS.sub(r"\1", path[0]), converter().vegalite_to_svg(on_paper))


def _cuttable(value: Any) -> Any:
    """The value with long texts as a drawing takes them.

    Vega cuts a long label between the halves of an emoji, and what draws then refuses the text: there they are escaped.
    It tries out where to cut: a text of thousands of characters takes minutes.
    """
    if isinstance(value, str):
        return value if len(value) < SHORT else shortened(_BEYOND.sub(_escaped, value))
    if isinstance(value, dict):
        return {_cuttable(key): _cuttable(one) for key, one in value.items()}
    return [_cuttable(one) for one in value] if isinstance(value, list | tuple) else value


def _escaped(match: re.Match[str]) -> str:
    return f"\\U{ord(match[0]):08x}"


def png(drawn_svg: str) -> bytes:
    """An SVG as PNG of 256 colours: a fifth of the bytes."""
    whole = converter().svg_to_png(drawn_svg, scale=SCALE)
    image = (
        Image.open(io.BytesIO(whole)).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def write_derived(file: Path, content: bytes) -> None:
    """Whole or not at all, but not waited for until it is on the disk: it can be made again."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    beside.write_bytes(content)
    beside.replace(file)


def table_csv(table: Table) -> str:
    """The table's cells, unrounded."""
    return _csv(iter([table.columns, *table.rows]))


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
