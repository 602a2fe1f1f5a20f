"""What a report and a study's end are made of: sentences, tables and figures, as plain values that hold their own data.

Nothing here draws. page.py, figures.py and terminal.py show the same values as HTML, SVG, PNG, CSV and text.
Names and messages come from files, folders and other packages: whatever is made of these classes holds only text that
can be encoded and drawn (the library that draws ends the process at a control character) and, in figures, numbers that
arithmetic cannot carry out of a float.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distdl.core.format import Cell
from distdl.core.text import printable_lines
from distdl.report.schema import LARGEST

SMALLEST = 1e-100
"""Numbers in a figure that are nearer to 0 are drawn as 0; those above LARGEST are not drawn."""


class Content:
    """Base of the frozen dataclasses below: text is made printable, line by line, where it enters."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type] - a subclass is a dataclass
            value = getattr(self, field.name)
            if (shown := _printable(value)) is not value:
                object.__setattr__(self, field.name, shown)


def _printable(value: Any) -> Any:
    """The value with its text made printable; the same object where all of it is."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, Mapping):
        pairs = [(_printable(key), _printable(one)) for key, one in value.items()]
        same = all(key is old and one is value[old] for (key, one), old in zip(pairs, value, strict=True))
        return value if same else dict(pairs)
    if isinstance(value, list | tuple):
        inner = [_printable(one) if isinstance(one, str | list | tuple | Mapping) else one for one in value]
        return type(value)(inner) if any(a is not b for a, b in zip(inner, value, strict=True)) else value
    return value


def _drawable(cells: Sequence[Cell]) -> Sequence[Cell]:
    """A figure's column, the same object where all of its numbers can be drawn."""
    odd = [type(cell) in (int, float) and not (SMALLEST <= abs(cell) <= LARGEST or cell == 0) for cell in cells]
    if not any(odd):
        return cells
    return [
        (0.0 if abs(cell) < SMALLEST else None) if out else cell  # type: ignore[arg-type]
        for cell, out in zip(cells, odd, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Table(Content):
    """Rows under named columns. Numbers stay numbers: who shows them rounds and sorts them."""

    name: str
    """Fit for a file name: its CSV is NAME.csv."""
    title: str
    columns: tuple[str, ...]
    """With the unit where there is one: "step (ms)"."""
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
    """Categories in the order in which they stand; without it in that of the rows."""


@dataclass(frozen=True, kw_only=True)
class Layer(Content):
    """One kind of mark over columns of equal length."""

    mark: Literal["line", "points", "bars", "band", "tiles", "rule"]
    """line: joins the rows in their order, a None breaks it; band: between `low` and `high`; tiles: a colour per (x, y)
    cell, by `value`; rule: a horizontal line at y; bars lie along x where the y axis is the one of categories."""
    data: Mapping[str, Sequence[Cell]]
    x: str = "x"
    y: str = "y"
    low: str = ""
    """Column of an interval's lower end: a band's, or a whisker on points and bars. `high` is the upper end."""
    high: str = ""
    value: str = ""
    """tiles: the column that colours a cell."""
    series: str = ""
    """Column whose values tell series apart, by colour (and shape or dash, for who cannot tell colours)."""
    start: str = ""
    """bars: the column where each begins, if not at 0."""
    stack: bool = False
    """bars: series on top of each other, not side by side."""

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
    """Fit for a file name: NAME.svg, NAME.png, NAME.csv."""
    title: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture(Content):
    """A PNG that something else drew: sample images, a tree."""

    name: str
    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding(Content):
    """One sentence that the results say, with how much stands behind it."""

    text: str
    """A whole sentence with its figures and their spread: "fine-tuned reaches 71.9 % (70.8 to 73.0)"."""
    n: int
    """Repetitions (seeds) behind it."""
    holds: bool | None = None
    """Whether what was expected (a document's claim) is what was found; None where nothing was expected."""


@dataclass(frozen=True, kw_only=True)
class Section(Content):
    """A heading with what stands under it, in order."""

    title: str
    text: str = ""
    parts: tuple[Finding | Table | Figure | Picture, ...] = ()
