"""`python -m distdl.launchers.remote`: a command at the end of an ssh."""

import signal
import subprocess
import sys

import pytest

from distdl.launchers import remote

REMOTE = [sys.executable, "-P", "-m", remote.MODULE]
SCRIPT = r"""
for name in TERM USR2 INT; do trap "echo $name" $name; done
trap "exit 7" HUP
exec 2> /dev/null
echo "$A"
while :; do sleep 0.05; done
"""


def start(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*REMOTE, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_variables_and_signals_arrive_by_stdin() -> None:
    process = start(SCRIPT)
    assert process.stdin is not None and process.stdout is not None
    with process:
        process.stdin.write(remote.variables_line({"A": 'b "c"  $d'}))
        process.stdin.flush()
        assert process.stdout.readline() == b'b "c"  $d\n'
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            process.stdin.write(remote.signal_line(number))
            process.stdin.flush()
            assert process.stdout.readline().strip().decode() == signal.Signals(number).name.removeprefix("SIG")
        process.stdin.write(b"nonsense\n" + remote.signal_line(signal.SIGHUP))
        process.stdin.flush()
        assert process.wait(60) == 7


def test_the_end_of_the_connection_ends_the_command() -> None:
    process = start("trap 'exit 9' TERM; exec 2> /dev/null; echo started; while :; do sleep 0.05; done")
    assert process.stdin is not None and process.stdout is not None
    with process:
        process.stdin.write(remote.variables_line({}))
        process.stdin.flush()
        assert process.stdout.readline() == b"started\n"
        process.stdin.close()
        assert process.wait(60) == 9


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137), ("true", 0)])
def test_the_exit_code_is_that_of_the_command(script: str, code: int) -> None:
    process = start(script)
    assert process.stdin is not None
    process.stdin.write(remote.variables_line({}))
    process.stdin.flush()
    assert process.wait(60) == code
    process.communicate()


@pytest.mark.parametrize("line", [b"", b"{", b"[1]\n", b"null\n", b"\xff\n", b'"a"\n'])
def test_another_first_line_is_refused_and_nothing_is_started(line: bytes) -> None:
    done = subprocess.run([*REMOTE, "touch", "ran"], input=line, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"error: the first line of stdin must be a JSON object of environment variables\n"


@pytest.mark.parametrize(("length", "code"), [(2**16, 0), (2**16 + 2, 2)])
def test_the_first_line_has_a_maximum_length(length: int, code: int) -> None:
    line = remote.variables_line({"A": ""})
    line = remote.variables_line({"A": "x" * (length - len(line))})
    assert len(line) == length
    process = start("true")
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()  # it stays open: its end would end the command
    assert process.wait(60) == code
    process.communicate()


def test_a_missing_program_is_one_line() -> None:
    done = subprocess.run([*REMOTE, "no-such-program"], input=remote.variables_line({}), capture_output=True)
    assert (done.returncode, done.stderr) == (
        2,
        b"error: no-such-program was not found: is it installed and on PATH?\n",
    )
