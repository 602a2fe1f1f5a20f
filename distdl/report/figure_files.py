"""Figures as SVG, PNG and PDF files, drawn by Vega-Lite without a browser; figures and tables as CSV."""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from distdl.core.errors import UserError, missing, reason, shortened
from distdl.core.files import write_atomic
from distdl.core.format import Cell
from distdl.core.text import csv_cell
from distdl.report.content import Figure, Table
from distdl.report.downsample import downsampled
from distdl.report.vega_lite import spec

PATH_DATA, DECIMALS = re.compile(r' d="[^"]*"'), re.compile(r"(\.\d\d)\d+")
SVG_SIZE = re.compile(r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)"')
SURROGATE_PAIR = re.compile("[\U00010000-\U0010ffff]")
"""Characters that UTF-16 writes as two units."""
UNCUT = 10
"""Length of texts that Vega never shortens, in characters."""
SCALE = 1.6
"""Pixels of a PNG per pixel of the figure, for a sharp print."""
FORMATS = (".png", ".svg", ".pdf")
"""Suffixes that --figure accepts."""


def converter() -> ModuleType:
    """Import the package that draws figures.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise missing("vl-convert-python", "report") from None
    return vl_convert


def check(path: Path | None) -> None:
    """Check the file of --figure before anything is measured or drawn.

    Raises:
        UserError: if the suffix is not in FORMATS, `path` is a folder, or the drawing package is not installed.
    """
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise UserError(f'--figure {path}: "{path.suffix}" is not one of {", ".join(FORMATS)}')
    if path.is_dir():
        raise UserError(f"--figure {path} is a folder: add a file name")
    converter()


def save(drawing: Figure | str, path: Path) -> None:
    """Write a figure or an SVG drawing to the file of --figure, atomically.

    Raises:
        UserError: if the file cannot be written.
    """
    drawing = drawing if isinstance(drawing, str) else svg(*downsampled(drawing))
    match path.suffix.lower():
        case ".svg":
            content = drawing.encode()
        case ".pdf":
            content = converter().svg_to_pdf(drawing)
        case _:
            content = _encoded(_rendered(drawing))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda sink: sink.write(content))
    except OSError as error:
        raise UserError(f"--figure {path} cannot be written: {reason(error)}") from None


def svg(figure: Figure, notes: Sequence[str] = ()) -> str:
    """Draw the figure on a white background, as SVG. `figure` and `notes` are results of `downsample.downsampled`."""
    on_paper, _ = spec(figure, notes, paper=True)
    # Two decimals of a pixel are enough and halve the size of the file.
    return PATH_DATA.sub(lambda path: DECIMALS.sub(r"\1", path[0]), converter().vegalite_to_svg(_shortenable(on_paper)))


def stacked(*drawings: str) -> str:
    """Combine SVG drawings into one, from top to bottom."""
    sizes = [_size(drawing) for drawing in drawings]
    width, height = max(width for width, _ in sizes), sum(height for _, height in sizes)
    tops = itertools.accumulate((height for _, height in sizes), initial=0.0)
    inner = [drawing.replace("<svg ", f'<svg y="{top:g}" ', 1) for drawing, top in zip(drawings, tops, strict=False)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}">',
            '<rect width="100%" height="100%" fill="white"/>',
            *inner,
            "</svg>",
        ]
    )


def _size(drawing: str) -> tuple[float, float]:
    match = SVG_SIZE.search(drawing)
    if match is None:
        raise ValueError("the SVG has no width and height")
    return float(match[1]), float(match[2])


def _shortenable(value: Any) -> Any:
    """Return the specification with long texts changed so that Vega can shorten them.

    Vega may cut a long label between the two halves of a surrogate pair, and the renderer then rejects the text:
    characters that need surrogate pairs are escaped. Texts are shortened to some hundred characters, because Vega tries
    every length, which takes minutes for a text of thousands of characters.
    """
    if isinstance(value, str):
        return value if len(value) < UNCUT else shortened(SURROGATE_PAIR.sub(_escaped, value))
    if isinstance(value, dict):
        return {_shortenable(key): _shortenable(item) for key, item in value.items()}
    return [_shortenable(item) for item in value] if isinstance(value, list | tuple) else value


def _escaped(match: re.Match[str]) -> str:
    return f"\\U{ord(match[0]):08x}"


def png(drawing: str) -> bytes:
    """Convert an SVG to a PNG with 256 colors, which has a fifth of the size of true color."""
    return _encoded(_rendered(drawing).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def _rendered(drawing: str) -> Image.Image:
    return Image.open(io.BytesIO(converter().svg_to_png(drawing, scale=SCALE))).convert("RGB")


def _encoded(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def write_derived(file: Path, content: bytes) -> None:
    """Write a file atomically, but without fsync, because it can be created again."""
    write_atomic(file, lambda sink: sink.write(content), durable=False)


def table_csv(table: Table) -> str:
    """Convert the table to CSV, with unrounded numbers."""
    return _csv(iter([table.columns, *table.rows]))


def figure_csv(figure: Figure) -> str:
    """Convert all rows of all layers to CSV, unrounded; with several layers, the first column is the layer's mark."""
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
    csv.writer(sink, lineterminator="\n").writerows(map(csv_cell, row) for row in rows)
    return sink.getvalue()
