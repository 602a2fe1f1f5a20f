"""Atomic files (write to a temporary file, fsync, rename) and .jsonl files that consist of whole lines."""

import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard

from distdl.core.errors import UserError, reason
from distdl.core.opening import check_regular, open_new, open_to_append
from distdl.core.regular import lines_of, open_regular

Write = Callable[[IO[bytes]], Any]
BLOCK = 2**16
TEMPORARY = re.compile(r"\..+\.[0-9a-f]+\.tmp")
"""Names of temporary files, which a kill may leave."""


def write_atomic(file: Path, write: Write, *, durable: bool = True) -> None:
    """Call `write` with a temporary file in the same folder, fsync it, and rename it to `file`.

    A link with the name of the file is replaced; its target does not change.

    Args:
        durable: whether the file survives a power failure; False saves the fsync of files that can be created again.
    """
    write_all({file: write}, durable=durable)


def write_all(files: Mapping[Path, Write], *, durable: bool = True) -> None:
    """Write several files, each atomically. If one cannot be written, all files keep their old content."""
    for file in files:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise UserError(f"{file} is a device or a pipe, which distdl does not replace: name a file")
    # The name is random and the file must be new: another user of the folder cannot prepare a link for it.
    temporary = {file: file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp") for file in files}
    try:
        for file, write in files.items():
            try:
                with open_new(temporary[file]) as sink:
                    write(sink)
                    sink.flush()
                    if durable:
                        os.fsync(sink.fileno())
            except OSError as error:  # an error of write() has no file name
                if error.errno:
                    error.filename = error.filename or str(file)
                raise
        _rename_all(temporary)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
            if len(files) > 1:
                _former(path).unlink(missing_ok=True)
    for folder in {file.parent for file in files} if durable else ():
        sync_folder(folder)


def _rename_all(temporary: Mapping[Path, Path]) -> None:
    """Rename each temporary file to its file. If one fails, the files before it get their old content back."""
    renamed: list[Path] = []
    for file, path in temporary.items():
        try:
            if len(temporary) > 1 and file.exists():
                _link(file, _former(path))
            path.replace(file)
        except OSError as error:
            for earlier in renamed:
                former = _former(temporary[earlier])
                if former.exists():
                    former.replace(earlier)
                else:
                    earlier.unlink()
            error.filename, error.filename2 = str(file), None
            raise
        renamed.append(file)


def _former(temporary: Path) -> Path:
    return temporary.with_name(f".former{temporary.name}")


def _link(file: Path, name: Path) -> None:
    """Create a hard link to a file, or a copy if the file system has no hard links."""
    try:
        name.hardlink_to(file)
    except OSError:
        shutil.copy2(file, name)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename in it is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_json(value: Any) -> bytes:
    """Encode a value as indented JSON."""
    return (json.dumps(value, indent=2, default=str) + "\n").encode()


def write_json(file: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(file, lambda sink: sink.write(as_json(value)))


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl file, without an incomplete last line.

    Raises:
        UserError: naming the first line that is not a JSON object.
    """
    if not file.exists():
        return
    try:
        with open_regular(file) as source:
            for number, line in enumerate(lines_of(source), start=1):
                if not line.endswith(b"\n"):
                    return
                row = parse_row(line)
                if row is None:
                    raise UserError(f"{file}, line {number}: damaged, not a JSON object")
                yield row
    except OSError as error:
        raise UserError(f"{file} cannot be read: {reason(error)}") from None


def append_rows(file: Path) -> IO[str]:
    """Open a .jsonl file for appending. An incomplete last line is removed first.

    Raises:
        UserError: it is a link or not a regular file.
    """
    sink = open_to_append(file)
    place, tail = sink.seek(0, os.SEEK_END), b""
    while place and b"\n" not in tail:
        place = max(place - BLOCK, 0)
        sink.seek(place)
        tail = sink.read(BLOCK)
    sink.truncate(place + tail.rfind(b"\n") + 1)
    return io.TextIOWrapper(sink, encoding="utf-8")


def reopen_rows(file: Path, step: int) -> IO[str]:
    """Open a .jsonl file for appending, without its rows after `step`, which a resumed run writes again.

    Raises:
        UserError: it is a link or not a regular file.
    """
    check_regular(file)
    if file.exists():
        with open_regular(file) as source:
            lines = [line for line in lines_of(source) if _is_until(line, step)]
        write_atomic(file, lambda sink: sink.writelines(lines))
    return io.TextIOWrapper(open_to_append(file), encoding="utf-8")


def _is_until(line: bytes, step: int) -> bool:
    row = parse_row(line) if line.endswith(b"\n") else None
    number = row.get("step") if row else None
    return type(number) is int and number <= step


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Parse a line as a JSON object; None if it is not one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def is_row(row: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value has the four fields of each row of a run: time_s, step, epoch, kind."""
    try:
        numbers = [row["time_s"], row["step"], row["epoch"]]
        in_range = all(type(number) in (int, float) and 0 <= number < 2**63 for number in numbers)
        return in_range and type(row["step"]) is int and isinstance(row["kind"], str)
    except (KeyError, TypeError):
        return False
