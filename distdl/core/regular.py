"""Read regular files only: opening a pipe would wait for its writer, and a device may never end.

All files that distdl reads and that another user or program may have written are opened here
(tests/core/test_regular.py lists the exceptions).
"""

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

LONGEST_LINE = 2**24
"""Maximum length of a line in bytes. A sparse file may be one line of any length."""
LARGEST_BYTES = 2**28
"""Maximum size of a text file: parsing one needs several times its size in memory."""


def open_regular(file: Path | str) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: it does not exist, cannot be opened, or is not a regular file.
    """
    try:
        source = open(file, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise _not_regular(file) if error.errno == errno.ENXIO else error from None  # ENXIO: a socket
    if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
        source.close()
        raise _not_regular(file)
    return source


def lines_of(source: BufferedReader) -> Iterator[bytes]:
    """Lines of an open file, with their ends.

    Raises:
        OSError: a line has more than LONGEST_LINE bytes.
    """
    while line := source.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise OSError(errno.EFBIG, f"it has a line of more than {LONGEST_LINE:,} bytes", source.name)
        yield line


def require_regular(file: Path | str) -> None:
    """Check that a file which a library opens by its name is a regular file. Raises OSError as `open_regular`."""
    open_regular(file).close()


def read_regular(file: Path | str, limit: int = LARGEST_BYTES) -> bytes:
    """The content of a file.

    Raises:
        OSError: as `open_regular`, or the file has more than `limit` bytes.
    """
    with open_regular(file) as source:
        if os.fstat(source.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(file))
        return source.read()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _not_regular(file: Path | str) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", str(file))
