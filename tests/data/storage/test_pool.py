"""Parallel work in processes that may crash."""

import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from distdl.data.storage.pool import surviving_map

DEADLY = {5: "SIGKILL", 21: "SIGSEGV", 22: "exit", 63: "SIGABRT"}


def squares(numbers: Sequence[int]) -> list[int]:
    """Return squares; some numbers make the process crash."""
    faulthandler.disable()  # pytest's handler: the crashes are intended
    for number in numbers:
        if DEADLY.get(number) == "exit":
            os._exit(0)
        if number in DEADLY:
            os.kill(os.getpid(), getattr(signal, DEADLY[number]))
    return [number**2 for number in numbers]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_crash_loses_only_the_item_that_caused_it(processes: int, size: int) -> None:
    batches = (range(start, min(start + size, 64)) for start in range(0, 64, size))
    results = {}
    for batch, values in surviving_map(squares, batches, processes):
        assert not results.keys() & set(batch), "an item is returned once"
        results |= zip(batch, values or [None], strict=True)
    assert results == {number: None if number in DEADLY else number**2 for number in range(64)}


def test_no_process_remains_when_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from distdl.data.storage.pool import surviving_map\n"
        "def work(items):\n"
        "    Path(sys.argv[1], str(os.getpid())).touch()\n"
        "    time.sleep(600)\n"
        "for _ in surviving_map(work, [[1], [2]], 2): pass\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    while len(children := [psutil.Process(int(file.name)) for file in tmp_path.iterdir() if file.name.isdigit()]) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
