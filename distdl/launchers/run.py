"""Run launch commands: start them, forward signals to them, wait for all, and end the others if one fails."""

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from distdl.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from distdl.core.files import write_atomic
from distdl.launchers import remote
from distdl.launchers.job import Command
from distdl.runtime.process import require_program

GRACE_S = 30.0
"""Seconds that the other commands have to exit after one has failed."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
GENTLE: Mapping[int, int] = {signal.SIGINT: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
"""Signals that launchers receive instead of the first Ctrl-C, and instead of SIGHUP.

Each launcher passes SIGTERM on to its ranks, which save and stop. A launcher that is still starting ends without a
message. At SIGINT Python would print a traceback, and srun would wait for a second one."""
POLL_S = 0.05


def run(commands: Sequence[Command]) -> int:
    """Run commands to their end. Returns the exit code of the first one that failed, or 0.

    If this process received a signal, a failure has the code 128 plus its number, except that of a clean stop.

    Raises:
        UserError: if a program is not installed.
    """
    for command in commands:
        require_program(command.argv[0])
        for name, text in command.files.items():
            write_atomic(Path(name), lambda sink, text=text: sink.write(text.encode()))
    reads_terminal = len(commands) == 1
    received: list[int] = []
    code = failure(watch((_start(command, reads_terminal) for command in commands), received, GENTLE))
    return 128 + received[0] if received and code not in (EXIT_DONE, EXIT_STOPPED) else code


def _start(command: Command, reads_terminal: bool) -> subprocess.Popen[Any]:
    # In its own session Ctrl-C reaches it once, through this process, and not a second time from the terminal.
    alone = None if reads_terminal else subprocess.DEVNULL
    if command.argv[0] == "ssh":
        process = subprocess.Popen(command.argv, stdin=subprocess.PIPE, start_new_session=True)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ssh has failed, with a message
            process.stdin.write(remote.variables_line(command.secrets))
            process.stdin.flush()
        return process
    environ = {**os.environ, **command.env, **command.secrets}
    return subprocess.Popen(command.argv, env=environ, stdin=alone, start_new_session=True)


def watch(
    processes: Iterable[subprocess.Popen[Any]],
    received: list[int] | None = None,
    first: Mapping[int, int] = MappingProxyType({}),
    *,
    patience: Callable[[int], float] = lambda code: GRACE_S,
    failed_elsewhere: Callable[[], bool] = lambda: False,
) -> list[subprocess.Popen[Any]]:
    """Wait for all processes, and end the others after one has failed: by SIGTERM, and `GRACE_S` later by SIGKILL.

    The signals of `FORWARDED` are forwarded, also while the iterable starts the processes, except SIGHUP under nohup.

    Args:
        received: a list to which the received signals are added.
        first: signals to forward instead of the first one that is received.
        patience: seconds that the others have to exit on their own, by the exit code of the first one that has failed.
        failed_elsewhere: whether a process of the same job has failed on another host.
    Returns:
        The processes in the order in which they have ended.
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
    ended: list[subprocess.Popen[Any]] = []
    escalation = iter((signal.SIGTERM, signal.SIGKILL))
    deadline = math.inf
    try:
        running.extend(processes)  # those started before an error are in the list
        while running:
            for process in [process for process in running if process.poll() is not None]:
                running.remove(process)
                ended.append(process)
            if math.isinf(deadline) and (code := _first_failure(ended) or EXIT_FAILED * failed_elsewhere()):
                deadline = time.monotonic() + patience(code)
            if time.monotonic() >= deadline:
                pending.append(next(escalation, signal.SIGKILL))
                deadline += GRACE_S
            while pending:
                for process in running:
                    forward(process, pending[0])
                pending.pop(0)
            time.sleep(POLL_S)
    finally:
        for number, handler in previous.items():
            # After the first signal this process only reports the end: another Ctrl-C must not change its exit code.
            signal.signal(number, signal.SIG_IGN if received else handler)
        for process in running:
            process.kill()
            process.wait()
    return ended


def failure(ended: Iterable[subprocess.Popen[Any]]) -> int:
    """Return the exit code of the first process that failed, or 0."""
    code = _first_failure(ended)
    return code if code >= 0 else 128 - code


def _first_failure(ended: Iterable[subprocess.Popen[Any]]) -> int:
    return next((process.returncode for process in ended if process.returncode), EXIT_DONE)


def forward(process: subprocess.Popen[Any], number: int) -> None:
    """Send a signal to a process, or its name to the process that `launchers.remote` has started on another host."""
    if process.stdin is None or number == signal.SIGKILL:
        process.send_signal(number)
        return
    try:
        process.stdin.write(remote.signal_line(number))
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it is exiting
