"""Read text, TOML, JSON and CSV files of users. Every error is one line that names the file."""

import csv
import io
import json
import os
import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError, reading, reason, shortened
from distdl.core.regular import LARGEST_BYTES, read_regular

LARGEST_TOML = 2**24
"""Maximum size of a TOML file in bytes: a profile has some thousand."""
LONGEST_INTEGER = 8192
"""Maximum number of bits of an integer in a TOML file. Python cannot print one of 4,300 decimal digits, but TOML may
state it in hexadecimal digits."""


def read_text(file: Path | Traversable, kind: str = "", limit: int = LARGEST_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Args:
        kind: name of the file in the message if it is missing: "profile file".
        limit: maximum size in bytes.
    Raises:
        UserError: it is missing, not a regular file (opening a pipe could block), too large, or not text.
    """
    with reading(str(file)):
        if isinstance(file, Path):
            _require_file(file, kind, limit)
            content = read_regular(file, limit)
        else:
            content = file.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{file} is not text in UTF-8 but in UTF-16: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not text (UTF-8): byte {error.start} cannot be decoded") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file}, line {line}: it contains a zero byte, so it is not text or is damaged")
    return text


def read_toml(file: Path | Traversable, kind: str = "file") -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        UserError: as `read_text`, or the file is not TOML.
    """
    text = read_text(file, kind, LARGEST_TOML)
    try:
        return parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    except Exception as error:  # RecursionError, or ValueError for a number with thousands of digits
        raise UserError(f"{file} is not TOML: {reason(error)}") from None


def read_json(file: Path, kind: str = "JSON") -> dict[str, Any]:
    """The object of a JSON file.

    Args:
        kind: description of the file, for the message: "a result of distdl".
    Raises:
        UserError: as `read_text`, or the file is not JSON, has a key twice, or is no object.
    """
    text = read_text(file)
    try:
        value = parse_json(text)
    except Exception as error:  # RecursionError, or ValueError for a number with thousands of digits
        raise UserError(f"{file} is not {kind}: {reason(error)}") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} is not {kind}: not a JSON object")
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML. Raises ValueError or RecursionError; also for an integer that is too long to be printed."""
    table = tomllib.loads(text)
    pending: list[Any] = [table]
    while pending:
        value = pending.pop()
        if isinstance(value, int) and value.bit_length() > LONGEST_INTEGER:
            raise ValueError(f"an integer has more than {LONGEST_INTEGER:,} bits")
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return table


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError or RecursionError; also for an object that has a key twice."""
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f'key "{shortened(name)}" occurs twice')
        table[name] = value
    return table


def read_csv_lines(file: Path) -> list[tuple[int, list[str]]]:
    """Rows of a CSV file with their line numbers; the first row has the column names in lower case. Skips empty rows.

    Raises:
        UserError: as `read_text`, or the number of values in a row differs from the number of columns.
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""))
    try:
        stripped = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
        rows = [(number, cells) for number, cells in stripped if any(cells)]
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None
    if not rows:
        return []
    rows[0] = (rows[0][0], [name.lower() for name in rows[0][1]])
    names = rows[0][1]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{file}, line {rows[0][0]}: {names.count(name)} columns are named "{shortened(name)}"')
    for line, cells in rows[1:]:
        if len(cells) != len(names):
            raise UserError(f"{file}, line {line}: {len(cells)} values under {len(names)} column names")
    return rows


def _require_file(file: Path, kind: str, limit: int) -> None:
    if kind and not os.path.lexists(file):
        raise UserError(f"there is no {kind} {file}")
    if os.path.lexists(file) and not file.is_file():
        what = "a folder" if file.is_dir() else "a link to nothing" if not file.exists() else "a device or a pipe"
        raise UserError(f"{file} is {what}, not a file")
    if file.stat().st_size > limit:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes: it may have at most {limit:,}")
