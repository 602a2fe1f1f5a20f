"""Run launch commands: a single command replaces this process; several are started, watched and terminated."""

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
"""Seconds that the other commands have to exit after one has failed."""
INTERRUPT = b"\x03"
"""Byte that Ctrl-C sends to a terminal: it interrupts the remote command of an ssh with a terminal."""


def run(commands: Sequence[Command]) -> int:
    """Run commands to their end. Returns the exit code of the first one that failed, or 0.

    Raises:
        UserError: if a program is not installed.
    """
    for command in commands:
        if not shutil.which(command.argv[0]):
            raise UserError(f"{command.argv[0]} was not found: is it installed and on PATH?")
        for name, text in command.files.items():
            Path(name).write_text(text, encoding="utf-8")
    if len(commands) == 1:
        # The command then has this process's signals, terminal and exit code.
        os.execvpe(commands[0].argv[0], commands[0].argv, {**os.environ, **commands[0].env})
    return watch([_start(command) for command in commands])


def _start(command: Command) -> subprocess.Popen[Any]:
    # In its own session Ctrl-C reaches it once, through this process, and not a second time from the terminal.
    stdin = subprocess.PIPE if command.argv[0] == "ssh" else subprocess.DEVNULL
    return subprocess.Popen(command.argv, env={**os.environ, **command.env}, stdin=stdin, start_new_session=True)


def watch(processes: Sequence[subprocess.Popen[Any]]) -> int:
    """Wait for all processes. After one has failed, the others get SIGTERM if they have not exited within `GRACE_S`.

    SIGINT and SIGTERM are forwarded. Returns the exit code of the first process that failed, or 0.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    running, code, deadline = list(processes), EXIT_DONE, float("inf")
    try:
        while running:
            for process in [process for process in running if process.poll() is not None]:
                running.remove(process)
                if process.returncode and not code:
                    code, deadline = process.returncode, time.monotonic() + GRACE_S
            if time.monotonic() > deadline:
                received.append(signal.SIGTERM)
                deadline += GRACE_S
            while received:
                for process in running:
                    forward(process, received[0])
                received.pop(0)
            time.sleep(0.05)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for process in running:
            process.kill()
            process.wait()
    return code if code >= 0 else 128 - code


def forward(process: subprocess.Popen[Any], number: int) -> None:
    """Send a signal to a process; the remote command of an ssh gets an interrupt instead."""
    if process.stdin is None:
        process.send_signal(number)
        return
    try:
        process.stdin.write(INTERRUPT)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it is exiting
