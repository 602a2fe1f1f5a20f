"""Run launch commands: start them, forward signals to them, wait for all, and end the others if one fails."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from distdl.core.errors import EXIT_DONE, EXIT_STOPPED, UserError
from distdl.launchers.job import Command

GRACE_S = 30.0
"""Seconds that the other commands have to exit after one has failed."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
GENTLE: Mapping[int, int] = {signal.SIGINT: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
"""Signals that launchers receive instead of the first Ctrl-C, and instead of SIGHUP.

Each launcher passes SIGTERM on to its ranks, which save and stop. A launcher that is still starting ends without a
message. At SIGINT Python would print a traceback, and srun would wait for a second one."""
INTERRUPT = b"\x03"
"""Byte that Ctrl-C sends to a terminal: it interrupts the remote command of an ssh with a terminal."""


def run(commands: Sequence[Command]) -> int:
    """Run commands to their end. Returns the exit code of the first one that failed, or 0.

    If this process received a signal, a failure has the code 128 plus its number, except that of a clean stop.

    Raises:
        UserError: if a program is not installed.
    """
    for command in commands:
        if not shutil.which(command.argv[0]):
            raise UserError(f"{command.argv[0]} was not found: is it installed and on PATH?")
        for name, text in command.files.items():
            Path(name).write_text(text, encoding="utf-8")
    reads_terminal = len(commands) == 1
    received: list[int] = []
    code = watch((_start(command, reads_terminal) for command in commands), received, GENTLE)
    return 128 + received[0] if received and code not in (EXIT_DONE, EXIT_STOPPED) else code


def _start(command: Command, reads_terminal: bool) -> subprocess.Popen[Any]:
    # In its own session Ctrl-C reaches it once, through this process, and not a second time from the terminal.
    alone = None if reads_terminal else subprocess.DEVNULL
    stdin = subprocess.PIPE if command.argv[0] == "ssh" else alone
    return subprocess.Popen(command.argv, env={**os.environ, **command.env}, stdin=stdin, start_new_session=True)


def watch(
    processes: Iterable[subprocess.Popen[Any]],
    received: list[int] | None = None,
    first: Mapping[int, int] = MappingProxyType({}),
) -> int:
    """Wait for all processes. After one has failed, the others get SIGTERM if they have not exited within `GRACE_S`.

    The signals of `FORWARDED` are forwarded, also while the iterable starts the processes, except SIGHUP under nohup.

    Args:
        received: a list to which the received signals are added.
        first: signals to forward instead of the first one that is received.
    Returns:
        The exit code of the first process that failed, or 0.
    """
    received = [] if received is None else received
    pending: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        pending.append(number if received else first.get(number, number))
        received.append(number)

    # nohup ignores SIGHUP, so that the training continues when the terminal is closed.
    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    forwarded = [number for number in FORWARDED if not (is_nohup and number == signal.SIGHUP)]
    previous = {number: signal.signal(number, receive) for number in forwarded}
    running: list[subprocess.Popen[Any]] = []
    code, deadline = EXIT_DONE, float("inf")
    try:
        running.extend(processes)  # those started before an error are in the list
        while running:
            for process in [process for process in running if process.poll() is not None]:
                running.remove(process)
                if process.returncode and not code:
                    code, deadline = process.returncode, time.monotonic() + GRACE_S
            if time.monotonic() > deadline:
                pending.append(signal.SIGTERM)
                deadline += GRACE_S
            while pending:
                for process in running:
                    forward(process, pending[0])
                pending.pop(0)
            time.sleep(0.05)
    finally:
        for number, handler in previous.items():
            # After the first signal this process only reports the end: another Ctrl-C must not change its exit code.
            signal.signal(number, signal.SIG_IGN if received else handler)
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
