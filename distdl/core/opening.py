"""Opening of files to write in folders that other users may write too: only regular files, and never through a link.

A link or a pipe that another user has put there under the name of a file would let this process overwrite a file
elsewhere, or wait for ever.
"""

import errno
import os
import stat
from pathlib import Path
from typing import IO

from distdl.core.errors import UserError


def open_new(file: Path, mode: int = 0o666) -> IO[bytes]:
    """Create a file and open it for writing.

    Args:
        mode: permissions, from which the umask is removed.
    Raises:
        FileExistsError: the name exists, even as a link to nothing.
    """
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb")


def open_to_append(file: Path) -> IO[bytes]:
    """Open a file for reading and appending; create it if it does not exist.

    Raises:
        UserError: it is a link or not a regular file.
    """
    return os.fdopen(open_to_write(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+b")


def open_to_write(file: Path, flags: int, mode: int = 0o666) -> int:
    """Open a file with the flags of os.open. Returns the descriptor.

    Args:
        mode: permissions of a new file, from which the umask is removed.
    Raises:
        UserError: it is a link or not a regular file.
    """
    try:
        # Without O_NONBLOCK a pipe is opened only when its other end is.
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    except OSError as error:
        if error.errno == errno.ELOOP and file.is_symlink():
            raise _is_link(file) from None
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
            raise _not_regular(file) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(file)
    return descriptor


def check_regular(file: Path) -> None:
    """Check a file that will be replaced or appended to, if it exists. Folders are left to the system's own error.

    Raises:
        UserError: it is a link or not a regular file.
    """
    try:
        mode = file.lstat().st_mode
    except OSError:  # it does not exist, or writing it will raise the error
        return
    if stat.S_ISLNK(mode):
        raise _is_link(file)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise _not_regular(file)


def check_folder(folder: Path) -> None:
    """Check a folder into which files will be written, if it exists: a link must belong to this user or to root.

    Raises:
        UserError: it is a link of another user, who could have put it there to choose where this process writes.
    """
    try:
        status = folder.lstat()
    except OSError:  # it does not exist, or writing into it will raise the error
        return
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (os.geteuid(), 0):
        raise UserError(f"{folder} is a link of another user, and distdl writes through no such link: remove it")


def _is_link(file: Path) -> UserError:
    return UserError(f"{file} is a link, and distdl writes through no link: remove it")


def _not_regular(file: Path) -> UserError:
    return UserError(f"{file} is not a regular file: remove it")
