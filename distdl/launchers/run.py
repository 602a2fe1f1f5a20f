"""The one place that runs commands: a single one takes this process over; several are started, watched and ended."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from distdl.core.errors import EXIT_DONE, UserError
from distdl.launchers.job import Command

GRACE_S = 30.0
"""How long the others have to end of themselves after one has failed."""
INTERRUPT = b"\x03"
"""What Ctrl-C sends to a terminal: how an ssh with a terminal of its own passes an interrupt on."""


def run(commands: Sequence[Command]) -> int:
    """Run to the end. Returns the exit code: of the first command that failed, or 0.

    Raises:
        UserError: if a program is not there.
    """
    for command in commands:
        if not shutil.which(command.argv[0]):
            raise UserError(f"{command.argv[0]} is not there: is it installed, and on PATH?")
        for name, text in command.files.items():
            Path(name).write_text(text, encoding="utf-8")
    if len(commands) == 1:
        # Signals, the terminal and the exit code then are the command's own.
        os.execvpe(commands[0].argv[0], commands[0].argv, {**os.environ, **commands[0].env})
    return watch([_start(command) for command in commands])


def _start(command: Command) -> subprocess.Popen[Any]:
    # A session of its own: Ctrl-C reaches it once, through us, and not a second time from the terminal.
    stdin = subprocess.PIPE if command.argv[0] == "ssh" else subprocess.DEVNULL
    return subprocess.Popen(command.argv, env={**os.environ, **command.env}, stdin=stdin, start_new_session=True)


def watch(processes: Sequence[subprocess.Popen[Any]]) -> int:
    """Wait for all. When one fails the others have `GRACE_S` to end of themselves before they are told to.

    SIGINT and SIGTERM are passed on. Returns the exit code of the first that failed, or 0.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    left, code, until = list(processes), EXIT_DONE, float("inf")
    try:
        while left:
            for process in [process for process in left if process.poll() is not None]:
                left.remove(process)
                if process.returncode and not code:
                    code, until = process.returncode, time.monotonic() + GRACE_S
            if time.monotonic() > until:
                received.append(signal.SIGTERM)
                until += GRACE_S
            while received:
                for process in left:
                    tell(process, received[0])
                received.pop(0)
            time.sleep(0.05)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for process in left:
            process.kill()
            process.wait()
    return code if code >= 0 else 128 - code


def tell(process: subprocess.Popen[Any], number: int) -> None:
    """Pass a signal on; to what runs at the far end of an ssh, an interrupt."""
    if process.stdin is None:
        process.send_signal(number)
        return
    try:
        process.stdin.write(INTERRUPT)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it is on its way out
