"""Escape foreign text (file names, class names, notes) before it reaches a terminal, a page or a spreadsheet."""

import re
import sys
from typing import TypeVar

SHOWN_CHARACTERS = 200
"""Maximum number of printed characters of a name."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of a formula in a spreadsheet."""
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?")
T = TypeVar("T")


def printable(text: object, limit: int | None = None) -> str:
    r"""Return `text` on one line, with every control character, direction mark and undecodable byte escaped.

    An escape sequence of a class name then shows as `\x1b[31m` instead of changing the terminal, and a file name that
    is not UTF-8 shows its bytes as `\xe9` instead of raising UnicodeEncodeError.

    Args:
        limit: cut longer texts to this many characters before they are escaped, and mark the cut by "...".
    """
    text = str(text)
    if limit is not None and len(text) > limit:
        text = text[: limit - 3] + "..."
    # False for controls, direction marks, surrogates, unassigned characters, and separators except the space.
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def printable_lines(text: str) -> str:
    """Return text of several lines, each escaped by `printable`."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def print_line(text: object, *, to_stderr: bool = False) -> None:
    """Print text on one line, escaped by `printable`, in the encoding of the stream."""
    stream = sys.stderr if to_stderr else sys.stdout
    encoding = stream.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def csv_cell(value: T) -> T | str:
    """A cell of a CSV file. A spreadsheet would evaluate a text that starts with one of FORMULA: it gets a quote."""
    is_formula = isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def name(text: object) -> str:
    """Return a file or class name, escaped by `printable` and cut to `SHOWN_CHARACTERS`."""
    return printable(text, SHOWN_CHARACTERS)


def _escaped(char: str) -> str:
    code = ord(char)
    if char in "\n\r\t":
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte of a name that is not UTF-8 (os.fsdecode)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
