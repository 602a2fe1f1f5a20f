"""The lock on a run folder: at most one training writes to it at a time.

It is a POSIX record lock, as with flock(1) `--fcntl`: the kernel releases it when the process ends; forked processes
(workers of a loader) do not hold it; network file systems share it between hosts. On a file system without locks
nothing is locked. The file is empty: result.json names the host and the process.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from distdl.core.errors import UserError
from distdl.core.opening import open_to_write

LOCK = "run.lock"
_FLOCK = "@hhlli4x"
"""struct flock of Linux: type, whence, start, length, pid."""  # plain: ok the name of a C field
_held: dict[Path, int] = {}
"""Descriptors of the locks of this process. Closing any other descriptor of the same file would release the lock."""
os.register_at_fork(after_in_child=_held.clear)


def hold(folder: Path) -> bool:
    """Lock a run folder for this process. False if another process holds it.

    Raises:
        UserError: the lock's file is a link or not a regular file.
    """
    file = _file(folder)
    if file in _held:
        return False
    descriptor = open_to_write(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            os.close(descriptor)
            return False
    _held[file] = descriptor
    return True


def release(folder: Path) -> None:
    """Release the lock of this process, if there is one."""
    descriptor = _held.pop(_file(folder), None)
    if descriptor is not None:
        os.close(descriptor)


def holder(folder: Path) -> int | None:
    """Process id, on its host, of the training that holds the lock; None if it is free. Changes nothing."""
    file = _file(folder)
    if file in _held:
        return os.getpid()
    try:
        descriptor = open_to_write(file, os.O_RDONLY)
    except (OSError, UserError):
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_, process = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else process


def _file(folder: Path) -> Path:
    return folder.resolve() / LOCK
