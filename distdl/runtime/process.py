"""Run a command with errors as one line, and end its process."""

import atexit
import contextlib
import errno
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from distdl.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_USER, Failure, UserError, reason, shortened
from distdl.core.text import printable


class Terminated(BaseException):
    """A command that must clean up has received SIGTERM. No `except Exception` may catch it."""


def too_many_files() -> str:
    """The message for EMFILE."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"too many open files: this process may have {limit}; raise it with ulimit -n, or use fewer --data.workers"


def run_command(command: Callable[[], int], *, debug: bool = False, rank: int = 0) -> int:
    """Run a command. A user's error becomes one line on stderr and an exit code; other errors keep their traceback.

    Args:
        rank: of this process. If all ranks fail for the same reason, rank 0 reports it: the others wait until the
            launcher has ended them, and print their line only if theirs is the only error.
    """
    try:
        return command()
    except (UserError, Failure) as error:
        if debug:
            raise
        line, code = str(error), EXIT_USER if isinstance(error, UserError) else EXIT_FAILED
    except Terminated:
        line, code = "terminated by SIGTERM", 128 + signal.SIGTERM
    except KeyboardInterrupt:
        line, code = "interrupted", 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (`| head`) closed the pipe: flushing stdout at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE) and not debug:
            print(f"error: {too_many_files()}", file=sys.stderr, flush=True)
            return EXIT_FAILED
        named_wrongly = error.errno in (errno.ENAMETOOLONG, errno.ELOOP) and error.filename
        if debug or not (named_wrongly or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)):
            raise
        line = f"{shortened(os.fsdecode(error.filename or 'a file of the run'))}: {error.strerror}"
        code = EXIT_USER if named_wrongly else EXIT_FAILED
    except Exception as error:
        line, code = _of_machine(error), EXIT_FAILED
        if debug or not line:
            raise
    if rank:
        time.sleep(2)
        line = f"rank {rank}: {line}"
    print(f"error: {printable(line)}", file=sys.stderr, flush=True)
    return code


LOST_PEER = re.compile(
    r"^(HorovodInternalError|DistBackendError|DistNetworkError|DistStoreError):"
    r"|\bgloo\b.*(Connection|Read error|Write error|Timed out|timeout|peer)|Connection (closed|reset) by peer"
)
"""Messages of torch.distributed and Horovod if a rank of a collective has exited or is unreachable."""


NO_MEMORY = re.compile(r"^(MemoryError|OutOfMemoryError)\b|can't allocate memory|CUDA out of memory")
"""Messages of Python and torch if the host or the GPU has too little memory."""


def _of_machine(error: Exception) -> str:
    """One line for an error of torch or Horovod that the machine caused; "" for all other errors."""
    text = reason(error)
    if LOST_PEER.search(text):
        return f"another rank ended or cannot be reached; see its output ({text})"
    if NO_MEMORY.search(text):
        return f"out of memory: use a smaller data.batch_size or a larger optim.accumulate ({text})"
    return ""


def with_torchelastic_record(main: Callable[[], int]) -> Callable[[], int]:
    """`main`, with its traceback recorded for torchrun, which prints that of the first failed rank."""
    if "TORCHELASTIC_ERROR_FILE" not in os.environ:
        return main
    from torch.distributed.elastic.multiprocessing.errors import record

    recorded = record(main)
    return lambda: recorded() or EXIT_DONE


def exit_process(code: int) -> NoReturn:
    """Exit a rank like `sys.exit`, but without interpreter shutdown.

    A gloo thread releases the tensors of a collective a moment after the collective is complete, and needs the
    interpreter for it. If the interpreter is shutting down by then, the process ends with SIGABRT after a successful
    training.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader has gone
            stream.flush()
    os._exit(code)
