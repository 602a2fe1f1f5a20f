"""Ctrl-C while modules are imported: one line, no traceback, and the previous handler is restored."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from distdl.runtime.interrupts import EXIT, Importing

INTERRUPTED = """
import signal
from distdl.runtime.interrupts import Importing
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell disables it for background jobs
with Importing():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        print("an import caught it")
print("after")
"""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    previous = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, previous)


def test_the_process_ends_with_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
    assert EXIT == 130


def test_of_several_ranks_only_the_first_reports_it() -> None:
    for rank, line in (("0", "error: interrupted\n"), ("1", "")):
        environ = {**os.environ, "RANK": rank}
        done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=environ)
        assert (done.returncode, done.stderr) == (130, line)


def test_the_default_handler_returns_after_the_imports_and_after_an_error() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Importing():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ImportError), Importing():
        raise ImportError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("other", [signal.SIG_IGN, lambda *_: None])
def test_another_handler_is_not_replaced(other: object) -> None:
    """As under nohup, or in a program that imports distdl."""
    signal.signal(signal.SIGINT, other)
    with Importing():
        assert signal.getsignal(signal.SIGINT) is other
    assert signal.getsignal(signal.SIGINT) is other


def test_other_threads_do_not_set_handlers() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen: list[object] = []

    def imports() -> None:
        with Importing():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=imports)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
