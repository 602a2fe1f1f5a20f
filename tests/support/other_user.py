"""Code that runs as another user, in a forked process, which needs root."""

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OTHER = 65534
"""The user "nobody", and its group."""  # plain: ok the name of a user


def needs_root() -> None:
    """Skip the test without root, which alone can become another user."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the test becomes another user")


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that other users can reach. Each start of pytest closes the folder above tmp_path to them."""
    with tempfile.TemporaryDirectory(prefix="distdl-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_other_user(function: Callable[[], str]) -> str:
    """Call a function in a forked process of another user without groups. Returns its result, or its traceback."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            text = function()
        except BaseException:
            text = traceback.format_exc()
        os.write(writes, text.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as source:
        text = source.read().decode()
    os.waitpid(child, 0)
    return text
