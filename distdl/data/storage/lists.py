"""Split lists: text files that name the images of a split, CLASS/FILE on each line."""

import os
import re
from pathlib import Path, PurePosixPath

from distdl.core.errors import UserError, reason
from distdl.core.paths import is_inside
from distdl.core.regular import read_regular
from distdl.core.text import name as shown

PRUNED = "BACKGROUND"
"""Start of the name of a folder of Caltech-101 with arbitrary images, which is not a class."""
EXPECTED = "a list has one CLASS/FILE on each line, in UTF-8"
LARGEST_BYTES = 2**31
"""Maximum size of a list: that of ImageNet-21k's 14 million images has 400 MB."""
BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(r"\r\n|\n|\r")
"""Line ends of text files. str.splitlines() also splits at characters that a file name may contain, such as U+2028."""
ListedImage = tuple[Path, str]
"""A file and the name of its class."""


def read(path: Path, bases: list[Path], notes: list[str]) -> list[Path]:
    """Read the paths of the images that a list names.

    A byte order mark, any line ends, "./" and Windows' backslashes are accepted. Repeated lines count once.

    Args:
        bases: folders to which the names may be relative: the first one if it has the first listed file, otherwise the
            only other one that has it.
        notes: receives a sentence for each kind of line that is left out.
    Raises:
        UserError: the list cannot be read, or a line does not name a file below the base folder.
    """
    lines = _lines(path)
    total = len(lines)
    lines = [line for line in lines if not any(part.startswith(PRUNED) for part in PurePosixPath(line[1]).parts[:-1])]
    if len(lines) < total:
        notes.append(f"{total - len(lines)} lines of {path.name} are left out: {PRUNED} is not a class")
    if not lines:
        return []
    base = _base(path, lines[0][1], bases)
    for number, name in lines:
        if not _is_file(base / name):
            raise _wrong_line(path, number, name, base)
    names = list(dict.fromkeys(PurePosixPath(name) for _, name in lines))
    if len(names) < len(lines):
        notes.append(f"{len(lines) - len(names):,} repeated lines of {path.name} count once")
    return [base / name for name in names]


def names_files(path: Path, bases: list[Path]) -> bool:
    """Whether a text file is a list, well formed or not: some line starts with the name of a file below a base.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = read_regular(path, LARGEST_BYTES).removeprefix(BOM).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    lines = {line.strip().replace("\\", "/") for line in LINE_END.split(text)}
    starts = {start for line in lines for start in (line, _first_field(line)) if "/" in start}
    return any(_is_file(base / start) for start in starts for base in bases)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises if a name is too long


def _first_field(line: str) -> str:
    return re.split(r"[,;\s]", line, maxsplit=1)[0].strip("\"'")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return number and file name of each line that is not blank, with "/" as separator."""
    try:
        data = read_regular(path, LARGEST_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    data = data.removeprefix(BOM)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        place = 0 if data[:1] in (b"\xff", b"\xfe") else data.index(0)
        raise UserError(f"{path} is not UTF-8 text (byte {data[place]:#04x} at {place}), perhaps UTF-16: {EXPECTED}")
    # A file name may have any bytes except "/" and NUL: bytes that are not UTF-8 are kept, and must match a file name.
    text = data.decode("utf-8", "surrogateescape")
    rows = []
    for number, line in enumerate(LINE_END.split(text), 1):
        name = line.strip(" \t")
        if "/" not in name:
            name = name.replace("\\", "/")
        if not name or PurePosixPath(name).name.startswith("."):
            continue
        parts = PurePosixPath(name).parts
        if len(parts) < 2 or not is_inside(name) or re.match(r"[A-Za-z]:/", name):
            raise UserError(
                f'{path}, line {number}: "{shown(name)}" is not of the form CLASS/FILE below the data folder'
            )
        rows.append((number, name))
    return rows


def _base(path: Path, first: str, bases: list[Path]) -> Path:
    list_folder, *others = bases
    names = {first, _first_field(first)}  # if the list is a table, its first column: a later error reports the table
    if any(_is_file(list_folder / name) for name in names):
        return list_folder
    fitting = [base for base in others if any(_is_file(base / name) for name in names)]
    if len(fitting) > 1:
        raise UserError(
            f"{path} names {shown(first)}, which is in {fitting[0].name}/ and in {fitting[1].name}/: write "
            "the folder's name before each line"
        )
    return fitting[0] if fitting else list_folder


def _wrong_line(path: Path, number: int, name: str, base: Path) -> UserError:
    if (file := _first_field(name)) != name and _is_file(base / file):
        return UserError(f"{path}, line {number} has more than a file name ({shown(name)}): {EXPECTED}")
    undecoded = next((ord(char) - 0xDC00 for char in name if 0xDC80 <= ord(char) <= 0xDCFF), None)
    if undecoded is not None:
        return UserError(f"{path}, line {number} is not UTF-8 (byte {undecoded:#04x}) and names no file: {EXPECTED}")
    return UserError(f"{path}, line {number}, names {shown(name)}, which is not in {base}")
