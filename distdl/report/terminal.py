"""Sections on the terminal: findings and tables as in the page, curves as sparklines of block characters."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from distdl.core.format import Cell, is_number, written
from distdl.report.content import Figure, Finding, Picture, PlotLayer, Section, Table

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK = 24
"""Characters per sparkline."""
MOST_ROWS, MOST_SERIES = 40, 8
"""Largest numbers of rows and curves that are shown; a line states how many more are in the page."""


def show(sections: Sequence[Section], console: Console) -> None:
    """Print sections. Their text is never interpreted as markup."""
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        console.print(Text("─" * min(len(section.title), console.width), style="dim"))
        if section.text:
            console.print(Text(section.text))
        for part in section.parts:
            for renderable in _parts(part, console.width):
                console.print(renderable)


def _parts(part: Finding | Table | Figure | Picture, width: int) -> Iterator[RenderableType]:
    match part:
        case Finding():
            yield _finding(part)
        case Table():
            yield from _table(part)
        case Figure():
            yield from _figure(part, width)
        case Picture():
            yield Text(f"picture {part.name}: {part.title}", style="dim")


def _finding(finding: Finding) -> RenderableType:
    mark, style = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("•", "")}[finding.holds]
    row = RichTable.grid(padding=(0, 1))
    text = Text(finding.text)
    text.append("" if finding.n == 0 else f"  n = {finding.n}", style="dim")
    if finding.holds is False:
        text.append("  (not as expected)", style="red")
    row.add_row(Text(mark, style=style), text)
    return row


def _table(table: Table) -> Iterator[RenderableType]:
    grid = RichTable(title=Text(table.title), title_justify="left", box=None, pad_edge=False, title_style="")
    for index, column in enumerate(table.columns):
        numbers = any(is_number(row[index]) for row in table.rows)
        grid.add_column(Text(column), justify="right" if numbers else "left", header_style="dim", overflow="fold")
    for row in table.rows[:MOST_ROWS]:
        grid.add_row(*(Text(written(cell)) for cell in row))
    yield Padding(grid, (1, 0, 0, 0))
    hidden = len(table.rows) - MOST_ROWS
    if hidden > 0:
        yield Text(f"... and {hidden} more rows in the page", style="dim")
    if table.note:
        yield Text(table.note, style="dim")


def _figure(figure: Figure, width: int) -> Iterator[RenderableType]:
    yield Padding(Text(f"{figure.title}  ({figure.y.title} over {figure.x.title})"), (1, 0, 0, 0))
    curves = [curve for layer in figure.layers if layer.mark == "line" for curve in _curves(layer)]
    grid, log = RichTable.grid(padding=(0, 1)), figure.y.scale == "log"
    for name, values in curves[:MOST_SERIES]:
        numbers = [value for value in values if is_number(value) and math.isfinite(value) and (value > 0 or not log)]
        if numbers:
            levels = [math.log(value) for value in numbers] if log else numbers
            ends = f"{written(numbers[0])} → {written(numbers[-1])}"
            grid.add_row(Text(name[: width // 3]), Text(spark(levels), style="cyan"), Text(ends, style="dim"))
    if grid.row_count:
        yield grid
    if len(curves) > MOST_SERIES:
        yield Text(f"... and {len(curves) - MOST_SERIES} more curves in the page", style="dim")


def _curves(layer: PlotLayer) -> Iterator[tuple[str, list[Cell]]]:
    values = layer.data[layer.y]
    names = layer.data[layer.series] if layer.series else [""] * len(values)
    by_name: dict[str, list[Cell]] = {}
    for name, value in zip(names, values, strict=True):
        by_name.setdefault(written(name) if layer.series else "", []).append(value)
    yield from by_name.items()


def spark(values: Sequence[float]) -> str:
    """Draw a sparkline: means over intervals of the curve, scaled from the smallest to the largest mean."""
    width = min(SPARK, len(values))
    groups = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    means = [sum(group) / len(group) for group in groups]
    low, high = min(means), max(means)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((mean - low) / (high - low) * top) if high > low else 0] for mean in means)
