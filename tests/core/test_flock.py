"""Locks between processes: one holder, waiting, and release at the end of a process."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from distdl.core import flock
from other_user import as_other_user, needs_root, reachable_folder

HOLD = """
import sys
from pathlib import Path
from distdl.core import flock
descriptor = flock.{function}(Path(sys.argv[1]))
print(descriptor is not None, flush=True)
sys.stdin.read()
"""


def started(function: str, file: Path) -> "subprocess.Popen[str]":
    code = HOLD.format(function=function)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=pipe, stdout=pipe, text=True)


def test_one_process_holds_a_lock_and_a_killed_one_releases_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    processes = [started("try_acquire", file) for _ in range(3)]
    held = [process.stdout and process.stdout.readline().strip() for process in processes]
    assert sorted(map(str, held)) == ["False", "False", "True"]
    assert flock.try_acquire(file) is None
    for process in processes:
        process.kill()
        process.communicate()
    descriptor = flock.try_acquire(file)
    assert descriptor is not None
    flock.release(descriptor)


def open_files() -> list[str]:
    return sorted(file.name for file in Path("/proc/self/fd").iterdir())


def test_a_refused_and_a_released_lock_leave_no_open_file(tmp_path: Path) -> None:
    free = open_files()
    descriptor = flock.acquire(tmp_path / "lock")
    held = open_files()
    assert flock.try_acquire(tmp_path / "lock") is None
    assert open_files() == held != free
    flock.release(descriptor)
    assert open_files() == free


def test_acquire_waits_for_the_release(tmp_path: Path) -> None:
    descriptor = flock.acquire(tmp_path / "lock")
    process = started("acquire", tmp_path / "lock")
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline() if process.stdout else ""))
    reader.start()
    reader.join(0.5)
    assert not lines
    flock.release(descriptor)
    reader.join(60)
    assert lines == ["True\n"]
    process.communicate("")


def test_release_ends_a_lock_that_a_forked_process_has_inherited(tmp_path: Path) -> None:
    descriptor = flock.acquire(tmp_path / "lock")
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writes)
        os.read(reads, 1)
        os._exit(0)
    try:
        assert flock.try_acquire(tmp_path / "lock") is None
        flock.release(descriptor)
        with flock.locked(tmp_path / "lock"):
            assert flock.try_acquire(tmp_path / "lock") is None
    finally:
        os.close(writes)
        os.waitpid(child, 0)
        os.close(reads)


def test_the_lock_of_a_context_is_released_after_an_error(tmp_path: Path) -> None:
    try:
        with flock.locked(tmp_path / "lock"):
            raise RuntimeError
    except RuntimeError:
        pass
    descriptor = flock.try_acquire(tmp_path / "lock")
    assert descriptor is not None
    flock.release(descriptor)


def test_two_users_share_a_lock() -> None:
    """As in a shared cache folder: the file has mode 0644."""
    needs_root()
    with reachable_folder() as folder:
        file = folder / "lock"
        descriptor = flock.acquire(file)
        file.chmod(0o644)
        assert as_other_user(lambda: str(flock.try_acquire(file))) == "None"
        flock.release(descriptor)
        assert as_other_user(lambda: str(flock.try_acquire(file) is not None)) == "True"
        file.chmod(0o600)
        assert "PermissionError" in as_other_user(lambda: str(flock.try_acquire(file)))
        assert "PermissionError" in as_other_user(lambda: str(flock.try_acquire(folder / "absent")))
