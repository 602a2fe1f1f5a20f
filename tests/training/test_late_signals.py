"""Signals after the state of a training has been saved do not change the exit code."""

import signal
import subprocess
import sys

import pytest

from jobs import QUIET

LATE = """
import atexit, os, runpy, signal, sys

class Stdout:
    '''Standard output that sends a signal to its own process right after certain lines.'''

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        written = self.stream.write(text)
        self.stream.flush()
        if {text!r} and {text!r} in text:
            os.kill(os.getpid(), signal.{second})
        return written

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell disables it for background commands
atexit.register(os.kill, os.getpid(), signal.{second}) if {text!r} == "" else None
sys.stdout = Stdout(sys.stdout)
sys.argv = ["distdl", *{argv!r}]
if {first!r}:
    from distdl.training.callbacks.metrics import MetricsSink
    from distdl.training.stop import StopSignal

    is_requested = StopSignal.is_requested
    def requested(stop):
        if not stop.reason:
            signal.raise_signal(signal.SIGINT)
        return is_requested(stop)
    StopSignal.is_requested = requested
{end}
"""
MODULE = 'runpy.run_module({entry!r}, run_name="__main__")'
SCRIPT = "from distdl.cli.__main__ import main\nsys.exit(main())"
ENTRIES = {
    "python -m distdl.train": ([], MODULE.format(entry="distdl.train")),
    "python -m distdl.cli": (["train"], MODULE.format(entry="distdl.cli")),
    "distdl": (["train"], SCRIPT),
}
SHORT = ["--epochs", "1", "--data.limit", "200", "--progress", "plain", "--telemetry.hz", "0", "--out", "run"]


def trained(entry: str, text: str, second: str, *, stopped: bool) -> subprocess.CompletedProcess[str]:
    """Run a training, stopped by SIGINT at its first step or completed; `second` is sent after the line with `text`.

    Without a text the signal is sent while Python exits.
    """
    subcommand, end = ENTRIES[entry]
    code = LATE.format(text=text, second=second, argv=[*subcommand, *SHORT], first=stopped, end=end)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("text", "second"),
    [("run folder: ", "SIGINT"), ("resume with: ", "SIGINT"), ("", "SIGINT"), ("", "SIGTERM"), ("", "SIGUSR2")],
)
def test_a_signal_after_the_stop_does_not_change_exit_code_75(text: str, second: str) -> None:
    done = trained("python -m distdl.train", text, second, stopped=True)
    assert (done.returncode, done.stderr) == (75, ""), done
    assert done.stdout.splitlines()[-1].startswith("resume with: ")


@pytest.mark.parametrize(("entry", "stopped"), [("python -m distdl.cli", True), ("distdl", True), ("distdl", False)])
def test_ctrl_c_while_python_exits_does_not_change_the_exit_code(entry: str, stopped: bool) -> None:
    done = trained(entry, "", "SIGINT", stopped=stopped)
    assert (done.returncode, done.stderr) == (75 if stopped else 0, ""), done


def test_a_training_within_a_program_restores_the_handlers() -> None:
    from distdl.cli.__main__ import main

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    assert main(["train", "--profile", "digits", "--max-steps", "1", "--data.limit", "200", *QUIET, "--out", "x"]) == 0
    assert {number: signal.getsignal(number) for number in previous} == previous
