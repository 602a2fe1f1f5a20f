"""Errors of a command: one line and an exit code, or a traceback."""

import errno
import os
from pathlib import Path

import pytest

from distdl.core.errors import Failure, UserError
from distdl.runtime.process import Terminated, run_command

LONG = Path("/x" + "a" * 300)
LINES = {
    "the user's": (UserError("wrong"), "wrong", 2),
    "a failure": (Failure("failed"), "failed", 1),
    "SIGTERM": (Terminated(), "terminated by SIGTERM", 143),
    "Ctrl-C": (KeyboardInterrupt(), "interrupted", 130),
    "open files": (OSError(errno.EMFILE, "x"), "too many open files", 1),
    "a name": (OSError(errno.ENAMETOOLONG, "File name too long", LONG), "...aaaaaaaaaaaaaaa: File name too long", 2),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), "a file of the run: No space left on device", 1),
    "another user's file": (OSError(errno.EACCES, "Permission denied", "/a"), "/a: Permission denied", 1),
    "a lost rank": (RuntimeError("gloo: Connection closed by peer"), "another rank ended or cannot be reached", 1),
    "memory": (MemoryError(), "out of memory: use a smaller data.batch_size", 1),
}
BUGS = {
    "a bug": ValueError("x"),
    "a missing file": FileNotFoundError(errno.ENOENT, "No such file", "/a"),
    "a connection": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
}


def failing(error: BaseException, *, debug: bool = False) -> int:
    def command() -> int:
        raise error

    return run_command(command, debug=debug)


@pytest.mark.parametrize(("error", "line", "code"), LINES.values(), ids=LINES)
def test_an_error_of_user_or_machine_is_one_line(
    error: BaseException, line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error) == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and line in printed and printed.count("\n") == 1


@pytest.mark.parametrize("error", BUGS.values(), ids=BUGS)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(error)


@pytest.mark.parametrize("error", [UserError("wrong"), OSError(errno.ENOSPC, "No space")], ids=type)
def test_debug_keeps_the_traceback_of_any_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(error, debug=True)


def test_a_closed_pipe_ends_a_command_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert failing(BrokenPipeError()) == 0
        assert os.path.samestat(os.fstat(stream.fileno()), Path(os.devnull).stat())
