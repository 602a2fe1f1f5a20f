"""Read text, TOML and JSON files that a user names or edits. Whatever is wrong with one is one line that names it."""

import json
import os
import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from distdl.errors import UserError, reading, reason

LARGEST_BYTES = 2**28
"""Larger text files are refused: reading one takes several times its size in memory."""


def read_text(file: Path | Traversable, kind: str = "file") -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Args:
        kind: what the file should be, for the message: "profile file".
    Raises:
        UserError: it is missing, no regular file (opening a pipe could wait for ever), too large, or not text.
    """
    with reading(file, kind):
        if isinstance(file, Path):
            _require_file(file, kind)
        content = file.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{file} is UTF-16 text: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not text (UTF-8): byte {error.start} cannot be decoded") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file}, line {line}: it holds a zero byte, so it is not text or is damaged")
    return text


def read_toml(file: Path | Traversable, kind: str = "file") -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        UserError: as `read_text`, or the file is not TOML.
    """
    text = read_text(file, kind)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    except Exception as error:  # RecursionError, ValueError of a number with thousands of digits
        raise UserError(f"{file} is not TOML: {reason(error)}") from None


def read_json(file: Path, kind: str = "file") -> Any:
    """The value of a JSON file.

    Raises:
        UserError: as `read_text`, or the file is not JSON.
    """
    text = read_text(file, kind)
    if not text.strip():
        raise UserError(f"{file} is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    except Exception as error:
        raise UserError(f"{file} is not JSON: {reason(error)}") from None


def _require_file(file: Path, kind: str) -> None:
    if not os.path.lexists(file):
        raise UserError(f"there is no {kind} {file}")
    if not file.is_file():
        what = "a folder" if file.is_dir() else "a link to nothing" if not file.exists() else "a device or a pipe"
        raise UserError(f"{file} is {what}, not a file")
    if file.stat().st_size > LARGEST_BYTES:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes: a {kind} has at most {LARGEST_BYTES:,}")
