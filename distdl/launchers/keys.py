"""Files with the key of a job, for hosts that share a file system."""

import contextlib
import os
import secrets
from pathlib import Path

from distdl.core.errors import UserError, reason
from distdl.core.opening import open_new
from distdl.core.regular import open_regular
from distdl.core.text import printable
from distdl.runtime.channel import KEY_BYTES
from distdl.runtime.launch_env import parse_key


def read_key(file: Path) -> bytes:
    """Read a key; create the file with a random one if there is none.

    Raises:
        UserError: if the file has no key, cannot be created, or can be read or written by another user.
    """
    try:
        return _read(file.expanduser())
    except OSError as error:
        raise UserError(f"--key-file {printable(str(file))}: {reason(error)}") from None


def _read(file: Path) -> bytes:
    if not file.exists():
        _create(file)
    with open_regular(file) as source:
        state = os.fstat(source.fileno())
        if state.st_uid != os.geteuid() or state.st_mode & 0o077:
            raise UserError(f"other users can read {printable(str(file))}, so that it is no key: use another file")
        text = source.read(4 * KEY_BYTES).decode("ascii", "replace").strip()
        return parse_key(text, printable(str(file)))


def _create(file: Path) -> None:
    """Create a file with a key, unless another host does it at the same time. It is never seen incomplete."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with open_new(temporary, 0o600) as sink:
            sink.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
            sink.flush()
            os.fsync(sink.fileno())
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
