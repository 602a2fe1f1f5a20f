"""Read tables of numbers from a user's CSV file. Whatever is wrong is one line that names the file, line and column."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core import userfiles
from distdl.core.errors import UserError, nearest, shortened


@dataclass(frozen=True, kw_only=True)
class CsvRow:
    """One row of a table: its line in the file, and its cells by the name of the column."""

    file: Path
    line: int
    cells: dict[str, str]

    def number(self, column: str, *, minimum: float | None = None, positive: bool = False) -> float:
        """The finite number in a column. Raises UserError as `number` does."""
        return number(self.file, self.line, column, self.cells[column], minimum=minimum, positive=positive)

    def optional_number(self, column: str) -> float | None:
        """The finite number in a column; None if the column is absent or its cell empty."""
        return self.number(column) if self.cells.get(column) else None

    def error(self, message: str) -> UserError:
        """An error in this row."""
        return UserError(f"{self.file}, line {self.line}: {message}")


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """A CSV file: the names of its columns in lower case, and its rows. Iterating gives the rows."""

    file: Path
    line: int
    """The line of the column names."""
    columns: Sequence[str]
    rows: Sequence[CsvRow]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[CsvRow]:
        return iter(self.rows)

    def require(self, *columns: str, hint: str = "") -> None:
        """Check that columns are present.

        Args:
            hint: what the message adds: the columns expected.
        Raises:
            UserError: one is missing.
        """
        for name in columns:
            if name not in self.columns:
                more = f"{nearest(name, self.columns)}{'; ' + hint if hint else ''}"
                raise UserError(f"{self.file}, line {self.line}: column {name} is missing{more}")

    def single_value(self, column: str) -> str | None:
        """The value that a column has in every row; None without rows or without that column.

        Raises:
            UserError: the column has several values.
        """
        if column not in self.columns or not self.rows:
            return None
        first = self.rows[0].cells[column]
        for row in self.rows[1:]:
            if (other := row.cells[column]) != first:
                values = f'"{shortened(other)}" after "{shortened(first)}"'
                raise row.error(f"{column} is {values}; fit one {column} at a time")
        return first


def read_csv(file: Path, columns: Sequence[str] = (), *, expected: str = "") -> CsvTable:
    """Read a CSV file with a line of column names. Other columns than the required ones are kept.

    Args:
        columns: the columns that must be present.
        expected: the clause of a message about an empty file: "expected are columns step and loss".
    Raises:
        UserError: as `userfiles.read_csv_lines`, or the file is empty, or a column is missing.
    """
    lines = userfiles.read_csv_lines(file)
    if not lines:
        raise UserError(f"{file} is empty{'; ' + expected if expected else ''}")
    first_line, names = lines[0]
    rows = [CsvRow(file=file, line=line, cells=dict(zip(names, cells, strict=True))) for line, cells in lines[1:]]
    table = CsvTable(file=file, line=first_line, columns=names, rows=rows)
    table.require(*columns)
    return table


def number(
    file: Path, line: int, name: str, value: Any, *, minimum: float | None = None, positive: bool = False
) -> float:
    """A finite number from a cell of a CSV file, or from a value of a JSON row.

    Args:
        name: the column or key.
        minimum: the smallest number allowed.
        positive: only numbers above 0 are allowed.
    Raises:
        UserError: it is not a number, not finite, or too small.
    """
    try:
        converted = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f'{file}, line {line}: {name} is "{shortened(str(value))}", not a number') from None
    is_allowed = math.isfinite(converted) and (not positive or converted > 0)
    if not is_allowed or (minimum is not None and converted < minimum):
        bound = " and positive" if positive else f" and {minimum:g} or more" if minimum is not None else ""
        raise UserError(f"{file}, line {line}: {name} is {shortened(str(value))}; it must be finite{bound}")
    return converted
