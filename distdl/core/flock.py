"""Locks between processes: flock on a file. The kernel releases a lock when its process ends in any way.

Forked processes inherit a lock. Cluster file systems support flock: NFS since version 4, Lustre mounted with `flock`.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from distdl.core.opening import open_to_write


def acquire(file: Path) -> int:
    """Lock a file, which is created if it does not exist. Waits for the lock.

    Returns:
        The descriptor that holds the lock; `release` or the end of the process releases it.
    Raises:
        UserError: the file is a link or not a regular file.
        OSError: it cannot be opened, or its file system has no locks.
    """
    descriptor = _opened(file, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def try_acquire(file: Path, mode: int = 0o666) -> int | None:
    """Lock a file as `acquire` does, without waiting. Returns None if another process holds the lock.

    Args:
        mode: permissions of a new file, from which the umask is removed. Every user who may read the file can lock it.
    """
    descriptor = _opened(file, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


def release(descriptor: int) -> None:
    """Release a lock, even if a forked process has inherited it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Context that holds the lock of a file. Waits for it.

    Raises:
        UserError, OSError: as `acquire`.
    """
    descriptor = acquire(file)
    try:
        yield
    finally:
        release(descriptor)


def _opened(file: Path, mode: int) -> int:
    try:
        return open_to_write(file, os.O_RDWR | os.O_CREAT, mode)
    except PermissionError:  # created by another user of a shared folder; NFS locks files that are open to write only
        if not file.exists():
            raise
        return open_to_write(file, os.O_RDONLY)
