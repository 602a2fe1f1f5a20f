"""The lock of a run folder: one holder, released by the kernel, visible to other processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distdl.core import runlock


@pytest.fixture(autouse=True)
def unlocked(tmp_path: Path) -> Iterator[None]:
    yield
    runlock.release(tmp_path)


def test_a_folder_has_one_holder_until_it_is_released(tmp_path: Path) -> None:
    assert runlock.holder(tmp_path) is None
    assert not list(tmp_path.iterdir()), "holder() creates no file"
    assert runlock.hold(tmp_path)
    assert runlock.holder(tmp_path) == os.getpid()
    assert not runlock.hold(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert not runlock.hold(link), "another name of the folder"
    assert runlock.holder(link) == os.getpid()
    runlock.release(tmp_path)
    runlock.release(tmp_path)
    assert runlock.holder(tmp_path) is None
    assert runlock.hold(tmp_path)
    assert (tmp_path / runlock.LOCK).read_bytes() == b""


def in_child(action: str, folder: Path) -> str:
    """Output of another process that calls a function of the module."""
    code = f"from pathlib import Path; from distdl.core import runlock; print(runlock.{action}(Path({str(folder)!r})))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_another_process_reads_the_holder_and_cannot_lock(tmp_path: Path) -> None:
    assert runlock.hold(tmp_path)
    assert in_child("holder", tmp_path) == str(os.getpid())
    assert in_child("hold", tmp_path) == "False"
    assert runlock.holder(tmp_path) == os.getpid(), "the failed attempt did not change the holder"
    runlock.release(tmp_path)
    assert in_child("hold", tmp_path) == "True"
    assert runlock.hold(tmp_path), "the kernel releases the lock of an ended process"


def test_a_forked_process_neither_holds_nor_releases_the_lock(tmp_path: Path) -> None:
    assert runlock.hold(tmp_path)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        seen = [runlock.holder(tmp_path)]
        runlock.release(tmp_path)
        os._exit(0 if [*seen, runlock.holder(tmp_path)] == [parent, parent] and not runlock.hold(tmp_path) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert in_child("hold", tmp_path) == "False"


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"x" if runlock.hold(tmp_path) else b"")
        signal.pause()
    os.read(reader, 1)
    assert runlock.holder(tmp_path) == child
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    assert not any(runlock.hold(tmp_path) for _ in range(3))
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert runlock.holder(tmp_path) is None
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_a_file_system_without_locks_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    monkeypatch.setattr(fcntl, "fcntl", unsupported)
    assert runlock.hold(tmp_path)
    runlock.release(tmp_path)
    assert runlock.holder(tmp_path) is None


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        runlock.hold(tmp_path / "absent")
    assert runlock.holder(tmp_path / "absent") is None
