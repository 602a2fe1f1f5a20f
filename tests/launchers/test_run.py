"""Signals on their way from `distdl launch` to its launcher."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from distdl.launchers.run import FORWARDED, watch
from jobs import wait_for

RUN = """
import subprocess, sys
from distdl.launchers.job import Command
from distdl.launchers.run import failure, run, watch
argv = sys.argv[2:]
if sys.argv[1] == "run":
    sys.exit(run([Command(argv=tuple(argv))]))
sys.exit(failure(watch([subprocess.Popen(argv, start_new_session=True)])))
"""
LAUNCHER = """
for name in INT HUP USR2; do trap "echo $name >> received" $name; done
trap 'echo TERM >> received; exit CODE' TERM
touch started
while :; do sleep 0.05; done
"""
PYTHON = "import time; open('started', 'w').close(); time.sleep(100)"


def interrupted(argv: Sequence[str], *numbers: int, how: str = "run") -> tuple[int, str]:
    """Run a launcher, and send signals to the process that runs it. Returns its exit code and its output on stderr."""
    with subprocess.Popen([sys.executable, "-c", RUN, how, *argv], stderr=subprocess.PIPE, text=True) as process:
        wait_for(Path("started").exists, 60, "the launcher")
        for count, number in enumerate(numbers, start=1):
            process.send_signal(number)
            wait_for(lambda count=count: process.poll() is not None or len(received()) == count, 60, "the signal")
        errors = process.communicate(timeout=60)[1]
    return process.returncode, errors


def launcher(code: int) -> list[str]:
    """A launcher that writes down its signals, and ends with `code` at SIGTERM."""
    return ["sh", "-c", LAUNCHER.replace("CODE", str(code))]


def received() -> list[str]:
    return Path("received").read_text(encoding="utf-8").split() if Path("received").exists() else []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_launcher_gets_sigterm(number: int) -> None:
    assert interrupted(launcher(7), number) == (128 + number, "")
    assert received() == ["TERM"]


def test_further_signals_are_passed_on_unchanged() -> None:
    assert interrupted(launcher(7), signal.SIGUSR2, signal.SIGINT, signal.SIGTERM) == (128 + signal.SIGUSR2, "")
    assert received() == ["USR2", "INT", "TERM"]


@pytest.mark.parametrize("code", [0, 75])
def test_the_code_of_a_training_that_completed_or_stopped_is_kept(code: int) -> None:
    assert interrupted(launcher(code), signal.SIGINT) == (code, "")


def test_sigquit_ends_the_launcher_too() -> None:
    """It reaches only the foreground of a terminal, to which the launcher does not belong."""
    assert interrupted(launcher(75), signal.SIGQUIT) == (128 + signal.SIGQUIT, "")
    assert received() == []


LATE = """
import os, signal, sys
from distdl.launchers.job import Command
from distdl.launchers.run import run
code = run([Command(argv=tuple(sys.argv[1:]))])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2):
    os.kill(os.getpid(), number)
print(code)
"""


def test_a_signal_after_a_stop_does_not_end_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", LATE, *launcher(75)], stdout=subprocess.PIPE, text=True) as process:
        wait_for(Path("started").exists, 60, "the launcher")
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=60)[0], process.returncode) == ("75\n", 0)


def test_handlers_are_restored_without_a_signal() -> None:
    earlier = {number: signal.getsignal(number) for number in FORWARDED}
    assert watch([]) == []
    assert {number: signal.getsignal(number) for number in FORWARDED} == earlier


def test_a_program_that_has_not_started_yet_ends_without_a_traceback() -> None:
    assert interrupted([sys.executable, "-c", PYTHON], signal.SIGINT) == (130, "")


def test_a_command_on_emulated_hosts_gets_ctrl_c_itself() -> None:
    argv = ["sh", "-c", "trap 'exit 9' INT; touch started; while :; do sleep 0.05; done"]
    assert interrupted(argv, signal.SIGINT, how="watch") == (9, "")


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    argv = ["nohup", sys.executable, "-c", RUN, "run", *launcher(75)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for(Path("started").exists, 60, "the launcher")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR2)
        wait_for(lambda: received() != [], 60, "a signal")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 75
    assert received() == ["USR2", "TERM"]
