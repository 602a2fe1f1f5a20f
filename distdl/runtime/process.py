"""Execution of a command with errors as one line, and exit of its process."""

import atexit
import contextlib
import ctypes
import errno
import faulthandler
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from distdl.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_USER, Failure, UserError, reason, shortened
from distdl.core.files import write_json
from distdl.core.text import print_line
from distdl.runtime.launch_env import error_file

PR_SET_PDEATHSIG = 1
"""Constant of linux/prctl.h. Its setting survives an exec."""


def end_with(parent: int) -> None:
    """Let the kernel send SIGTERM to this process when its parent ends, even by SIGKILL. Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before this was set
        os.kill(os.getpid(), signal.SIGTERM)


def require_program(name: str) -> None:
    """Check that a program is installed.

    Raises:
        UserError: if it is not on PATH.
    """
    if not shutil.which(name):
        raise UserError(f"{name} was not found: is it installed and on PATH?")


class Terminated(BaseException):
    """Raised when a signal ends a command that must clean up. A BaseException, so `except Exception` ignores it."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.number = number


def too_many_files() -> str:
    """Return the error message for EMFILE."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"too many open files: this process may have {limit}; raise it with ulimit -n, or use fewer --data.workers"


def run_command(command: Callable[[], int], *, debug: bool = False, rank: int = 0) -> int:
    """Run a command. An error of the user becomes one line on stderr and an exit code; others keep their traceback.

    Args:
        debug: keep the traceback of every error.
        rank: rank of this process. If all ranks fail for the same reason, only rank 0 should report it: the others
            first wait for the launcher to end them. An interrupt ends all ranks, and only rank 0 reports it.
    """
    try:
        return command()
    except BrokenPipeError:
        # The reader (such as `| head`) has closed the pipe: flushing stdout at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except Terminated as end:
        line, code = f"terminated by {signal.Signals(end.number).name}", 128 + end.number
    except KeyboardInterrupt:
        line, code = "interrupted", 128 + signal.SIGINT
        if rank:
            return code
    except Exception as error:
        line, code = _line_and_code(error)
        if debug or not line:
            raise
    if rank:
        time.sleep(2)
        line = f"rank {rank}: {line}"
    print_line(f"error: {line}", to_stderr=True)
    return code


def escape_tracebacks() -> None:
    """Escape foreign text in the traceback of an exception that ends this process (a bug, or any with --debug)."""
    sys.excepthook = _print_escaped


def _print_escaped(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    for line in "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n"):
        print_line(line, to_stderr=True)


def _line_and_code(error: Exception) -> tuple[str, int]:
    """Line and exit code of an error that the user or the machine caused; "" for a bug, which keeps its traceback."""
    match error:
        case UserError():
            return str(error), EXIT_USER
        case Failure():
            return str(error), EXIT_FAILED
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return too_many_files(), EXIT_FAILED
        case OSError(errno=errno.ENAMETOOLONG | errno.ELOOP) if error.filename:
            return f"{shortened(os.fsdecode(error.filename))}: {error.strerror}", EXIT_USER
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EROFS | errno.EACCES):
            return f"{shortened(os.fsdecode(error.filename or 'a file of the run'))}: {error.strerror}", EXIT_FAILED
        case OSError():
            return "", EXIT_FAILED
        case _:
            return _machine_error(error), EXIT_FAILED


LOST_PEER = re.compile(
    r"^(HorovodInternalError|DistBackendError|DistNetworkError|DistStoreError):"
    r"|\bgloo\b.*(Connection|Read error|Write error|Timed out|timeout|peer)|Connection (closed|reset) by peer"
)
"""Matches messages of torch.distributed and Horovod if another rank has exited or is unreachable."""


NO_MEMORY = re.compile(r"^(MemoryError|OutOfMemoryError)\b|can't allocate memory|CUDA out of memory")
"""Matches messages of Python and torch if the host or the GPU has too little memory."""


def _machine_error(error: Exception) -> str:
    """Return a line for an error of torch or Horovod that the machine caused; "" for all other errors."""
    text = reason(error)
    if LOST_PEER.search(text):
        return f"another rank ended or cannot be reached; see its output ({text})"
    if NO_MEMORY.search(text):
        return f"out of memory: use a smaller data.batch_size or a larger optim.accumulate ({text})"
    return ""


IN_SUMMARY = {
    EXIT_STOPPED: 'stopped cleanly, not an error: the line "resume with" of rank 0 is the command that continues',
    EXIT_USER: 'see the line "error:" above',
    EXIT_FAILED: 'see the line "error:" above',
}
"""Messages of torchrun's summary, where it otherwise has a hint about tracebacks, by exit code of the rank."""


def with_torchelastic_record(main: Callable[[], int]) -> Callable[[], int]:
    """Wrap `main` so that torchrun's summary of failed ranks shows its traceback, or the meaning of its exit code."""
    file = error_file()
    if file is None:
        return main

    def recording() -> int:
        with contextlib.suppress(Exception):  # as torch's own decorator; stderr may have no file descriptor
            faulthandler.enable()
        try:
            code = main()
        except Exception as error:
            # Only here: `main` prepares the process before it imports torch, and reports most errors without it.
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(error)
            raise
        if code in IN_SUMMARY:
            message = {"message": IN_SUMMARY[code], "extraInfo": {"timestamp": str(int(time.time()))}}
            with contextlib.suppress(OSError):  # without the file the summary has no message
                write_json(file, {"message": message})
        return code

    return recording


def exit_process(code: int) -> NoReturn:
    """Exit a rank like `sys.exit`, but without interpreter shutdown.

    A gloo thread releases the tensors of a collective shortly after it is complete, and needs the interpreter for that.
    If the interpreter is already shutting down, the process ends with SIGABRT after a successful training.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the code stands: a late Ctrl-C does not replace it
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed when Python started
        with contextlib.suppress(OSError, ValueError):  # the reader has closed the pipe
            stream.flush()
    os._exit(code)
