"""Files with the key of a job, for hosts that share a file system."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from distdl.core.errors import UserError
from distdl.core.text import printable
from distdl.runtime.channel import KEY_BYTES
from distdl.runtime.launch_env import parse_key


def read_key(file: Path) -> bytes:
    """Read a key; create the file with a random one if there is none.

    Raises:
        UserError: if the file has no key, or another user can read or write it.
    """
    file = file.expanduser()
    if not file.exists():
        _create(file)
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as source:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"{printable(str(file))} is not a file")
        if state.st_uid != os.geteuid() or state.st_mode & 0o077:
            raise UserError(f"other users can read {printable(str(file))}, so that it is no key: use another file")
        return parse_key(source.read(4 * KEY_BYTES).strip(), printable(str(file)))


def _create(file: Path) -> None:
    """Create a file with a key, unless another host does it at the same time. It is never seen incomplete."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as sink:
            sink.write(secrets.token_hex(KEY_BYTES) + "\n")
            sink.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(temporary)
    finally:
        temporary.unlink()
