"""Content of reports as plain values with their data: sentences, tables, figures and pictures.

page.py, figure_files.py and terminal.py convert these values to HTML, SVG, PNG, CSV and text. Names and messages come
from files, folders and other packages. The classes make all text printable, because the drawing library aborts the
process at a control character, and limit numbers in figures to a range in which arithmetic cannot overflow a float.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distdl.core.format import Cell, is_number
from distdl.core.schema import LARGEST
from distdl.core.text import printable_lines

Columns = dict[str, list[Cell]]
"""Data of a layer of a figure by column, as it is collected row by row."""
SMALLEST = 1e-100
"""Numbers in a figure below this are drawn as 0; those above LARGEST are not drawn."""


class Content:
    """Base of the frozen dataclasses below: makes text printable, line by line, when an instance is created."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type] - a subclass is a dataclass
            value = getattr(self, field.name)
            if (text := _printable(value)) is not value:
                object.__setattr__(self, field.name, text)


def _printable(value: Any) -> Any:
    """The value with its text made printable; the same object if it already is."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, Mapping):
        pairs = [(_printable(key), _printable(item)) for key, item in value.items()]
        same = all(key is old and item is value[old] for (key, item), old in zip(pairs, value, strict=True))
        return value if same else dict(pairs)
    if isinstance(value, list | tuple):
        items = [_printable(item) if isinstance(item, str | list | tuple | Mapping) else item for item in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _drawable(cells: Sequence[Cell]) -> Sequence[Cell]:
    """A column of a figure with numbers that can be drawn; the same object if they already can."""
    drawable = [_drawable_cell(cell) for cell in cells]
    return drawable if any(a is not b for a, b in zip(drawable, cells, strict=True)) else cells


def _drawable_cell(cell: Cell) -> Cell:
    if not is_number(cell) or SMALLEST <= abs(cell) <= LARGEST or cell == 0:
        return cell
    return 0.0 if abs(cell) < SMALLEST else None


@dataclass(frozen=True, kw_only=True)
class Table(Content):
    """Rows under named columns. Numbers stay numbers: they are rounded and sorted when shown."""

    name: str
    """Valid as a file name: the CSV is NAME.csv."""
    title: str
    columns: tuple[str, ...]
    """With units: "step (ms)"."""
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.name}: every row needs {len(self.columns)} cells")


@dataclass(frozen=True, kw_only=True)
class Axis(Content):
    title: str
    """With the unit in parentheses."""
    scale: Literal["linear", "log", "category"] = "linear"
    order: tuple[str, ...] = ()
    """Order of the categories; by default the order of the rows."""


@dataclass(frozen=True, kw_only=True)
class PlotLayer(Content):
    """One kind of mark over columns of equal length."""

    mark: Literal["line", "points", "bars", "band", "tiles", "rule"]
    """line: joins the rows in their order, None breaks it; band: fills from `low` to `high`; tiles: a color per (x, y)
    cell, by `value`; rule: a horizontal line at y; bars are horizontal if the y axis has the categories."""
    data: Mapping[str, Sequence[Cell]]
    x: str = "x"
    y: str = "y"
    low: str = ""
    """Column with the lower end of an interval: a band, or an error bar on points and bars. `high` is the upper end."""
    high: str = ""
    value: str = ""
    """tiles: the column that colors a cell."""
    series: str = ""
    """Column of the series, which differ in color, and in shape or dash for readers with color blindness."""
    start: str = ""
    """bars: column with the start of each bar; 0 without it."""
    stack: bool = False
    """bars: stack the series instead of placing them side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        drawable = {name: _drawable(cells) for name, cells in self.data.items()}
        if any(drawable[name] is not cells for name, cells in self.data.items()):
            object.__setattr__(self, "data", drawable)
        lengths = {name: len(values) for name, values in self.data.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of unequal length: {lengths}")
        for column in filter(None, (self.low, self.high, self.value, self.series, self.start)):
            if column not in self.data:
                raise ValueError(f'no column "{column}" among {list(self.data)}')


@dataclass(frozen=True, kw_only=True)
class Figure(Content):
    """Layers over one pair of axes."""

    name: str
    """Valid as a file name: NAME.svg, NAME.png, NAME.csv."""
    title: str
    x: Axis
    y: Axis
    layers: tuple[PlotLayer, ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture(Content):
    """A PNG image from another source, such as sample images."""

    name: str
    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding(Content):
    """One conclusion from the results, with the number of repetitions behind it."""

    text: str
    """A sentence with values and their confidence intervals: "fine-tuned reaches 71.9 % (70.8 to 73.0)"."""
    n: int
    """Number of repetitions (seeds)."""
    holds: bool | None = None
    """Whether the result is as expected, for example as published; None if there is no expectation."""


@dataclass(frozen=True, kw_only=True)
class Section(Content):
    """A heading and its content, in order."""

    title: str
    text: str = ""
    parts: tuple[Finding | Table | Figure | Picture, ...] = ()
