"""Errors of a command as one line with an exit code, and the exit of its process."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from distdl.core.errors import Failure, UserError
from distdl.runtime.process import Terminated, run_command, with_torchelastic_record

EXITS = """
import atexit, threading
from distdl.runtime.process import exit_process

atexit.register(print, "at exit")
threading.Thread(target=threading.Event().wait).start()  # sys.exit would wait for this thread
print("printed", end=" ")
exit_process(75)
"""


def test_exit_process_flushes_output_and_does_not_wait_for_threads() -> None:
    done = subprocess.run([sys.executable, "-c", EXITS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (75, "printed at exit\n", "")


def test_exit_process_accepts_a_standard_output_that_was_closed_at_the_start() -> None:
    code = "from distdl.runtime.process import exit_process; exit_process(3)"
    argv = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code]
    done = subprocess.run(argv, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (3, b"")


CLOSED = """
import sys
from distdl.runtime.process import run_command

sys.exit(run_command(lambda: print("x", flush=True)))
"""


def test_output_to_a_closed_pipe_ends_without_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        # With buffered output, as by default, the text is written again at the exit.
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        argv = [sys.executable, "-c", CLOSED]
        done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, env=buffered, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's class."""


class DistBackendError(RuntimeError):
    """Has the name of torch's class."""


def raising(error: BaseException) -> int:
    raise error


GLOO = "[gloo/transport/tcp/pair.cc:534] gloo: Connection closed by peer [127.0.0.1]:1"
LINES: dict[str, tuple[BaseException, int, str]] = {
    "user": (UserError("profile x"), 2, "profile x"),
    "control characters": (UserError("a\x1b[31m\nb"), 2, r"a\x1b[31m\nb"),
    "failure": (Failure("the loss is not finite"), 1, "the loss is not finite"),
    "SIGTERM": (Terminated(), 143, "terminated by SIGTERM"),
    "SIGQUIT": (Terminated(signal.SIGQUIT), 131, "terminated by SIGQUIT"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted"),
    "full disk": (OSError(errno.ENOSPC, "No space left", "/x/y"), 1, "/x/y: No space left"),
    "quota": (OSError(errno.EDQUOT, "Quota exceeded", "/x"), 1, "/x: Quota exceeded"),
    "read-only": (OSError(errno.EROFS, "Read-only", "/x"), 1, "/x: Read-only"),
    "permission": (PermissionError(errno.EACCES, "Permission denied"), 1, "a file of the run: Permission denied"),
    "long name": (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2, f"{'x' * 180}...{'x' * 15}: File"),
    "loop": (OSError(errno.ELOOP, "Too many levels", "/l"), 2, "/l: Too many levels"),
    "lost peer": (DistBackendError("NCCL"), 1, "another rank ended or cannot be reached; see its output (DistBackend"),
    "gloo": (RuntimeError(GLOO), 1, "another rank ended or cannot be reached; see its output (RuntimeError: [gloo"),
    "reset": (RuntimeError("Connection reset by peer"), 1, "another rank ended or cannot be reached"),
    "memory": (MemoryError(), 1, "out of memory: use a smaller data.batch_size or a larger optim.accumulate (MemoryE"),
    "GPU memory": (OutOfMemoryError("CUDA"), 1, "out of memory: use a smaller data.batch_size"),
    "allocator": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory: use a smaller"),
}


@pytest.mark.parametrize(("error", "code", "line"), LINES.values(), ids=LINES)
def test_an_error_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert run_command(lambda: raising(error)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {line}") and err.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_the_error_for_too_many_open_files_states_the_limit(capsys: pytest.CaptureFixture[str], number: int) -> None:
    assert run_command(lambda: raising(OSError(number, "Too many open files"))) == 1
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    message = f"error: too many open files: this process may have {limit}; raise it with ulimit -n, or use fewer "
    assert capsys.readouterr().err == f"{message}--data.workers\n"


UNEXPECTED = [
    ValueError("a bug"),
    RuntimeError("shape mismatch"),
    RuntimeError("Connection refused"),
    FileNotFoundError(errno.ENOENT, "No such file", "x"),
    OSError(errno.ENAMETOOLONG, "File name too long"),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=str)
def test_an_unexpected_error_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        run_command(lambda: raising(error))
    assert raised.value is error


@pytest.mark.parametrize("name", ["user", "failure", "full disk", "long name", "gloo", "memory"])
def test_debug_keeps_the_traceback_of_every_error(name: str) -> None:
    error = LINES[name][0]
    with pytest.raises(type(error)):
        run_command(lambda: raising(error), debug=True)
    with pytest.raises(OSError):
        run_command(lambda: raising(OSError(errno.EMFILE, "Too many open files")), debug=True)


def test_the_result_of_a_command_is_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert [run_command(lambda code=code: code) for code in (0, 75)] == [0, 75]
    assert capsys.readouterr() == ("", "")


def test_other_ranks_wait_before_they_print_their_error_and_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    assert run_command(lambda: raising(UserError("x")), rank=3) == 2
    assert (waits, capsys.readouterr().err) == ([2], "error: rank 3: x\n")
    assert run_command(lambda: raising(KeyboardInterrupt()), rank=3) == 130
    assert (len(waits), capsys.readouterr().err) == (1, ""), "rank 0 reports an interrupt"
    assert run_command(lambda: raising(UserError("x"))) == 2
    assert len(waits) == 1


READER = """
import sys
from distdl.runtime.process import run_command

def write():
    for _ in range(100_000):
        print("x" * 100)
    return 3

sys.exit(run_command(write))
"""


def test_a_closed_pipe_is_not_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", READER], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        writer.stdout.read(1)
        writer.stdout.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == 0


def test_a_command_without_torchrun_is_not_wrapped(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    command = lambda: 7  # noqa: E731
    assert with_torchelastic_record(command) is command
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert with_torchelastic_record(command)() == 7
    with pytest.raises(ArithmeticError):
        with_torchelastic_record(lambda: raising(ArithmeticError("no")))()
    assert "ArithmeticError" in (tmp_path / "error.json").read_text()


def test_a_rank_of_torchrun_prepares_itself_before_torch_is_imported(tmp_path) -> None:
    """torch reads the limits of its threads' waiting when it is imported."""
    code = (
        "import sys; from distdl.runtime.process import with_torchelastic_record; "
        "sys.exit(with_torchelastic_record(lambda: 3 if 'torch' in sys.modules else 75)())"
    )
    environ = {**os.environ, "TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.returncode == 75, done.stderr
    assert "stopped cleanly" in (tmp_path / "error.json").read_text()


@pytest.mark.parametrize("command", [["distdl.cli", "report"], ["distdl.train", "--profile"]], ids=["distdl", "rank"])
def test_foreign_text_in_a_traceback_is_escaped(command: list[str]) -> None:
    name = "./a\x1b]0;T\x07[bold]\u202e\n\udce9.toml"
    argv = [sys.executable, "-m", *command, name, "--debug"]
    done = subprocess.run(argv, capture_output=True)
    assert done.returncode == 1
    text = done.stderr.decode()
    assert text.startswith("Traceback ") and r"a\x1b]0;T\x07[bold]\u202e" in text
    assert not {char for char in text if not char.isprintable() and char != "\n"}
