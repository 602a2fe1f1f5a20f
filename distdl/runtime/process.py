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
    """SIGTERM came to a command that has something to clean up; no `except Exception` may hold it back."""


def too_many_files() -> str:
    """The sentence for EMFILE."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"too many open files: this process may have {limit}; raise it with ulimit -n, or use fewer --data.workers"


def run_command(command: Callable[[], int], *, debug: bool = False, rank: int = 0) -> int:
    """Run a command; what a person can mend becomes one line on stderr and an exit code, all else keeps its traceback.

    Args:
        rank: of this process. Where all ranks fail alike rank 0 speaks: the others hold their line back for as long as
            it takes the launcher to end them, so that an error of one of them alone is still heard.
    """
    try:
        return command()
    except (UserError, Failure) as error:
        if debug:
            raise
        line, code = str(error), EXIT_USER if isinstance(error, UserError) else EXIT_FAILED
    except Terminated:
        line, code = "told to end", 128 + signal.SIGTERM
    except KeyboardInterrupt:
        line, code = "interrupted", 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted; what is left in stdout must not fail again at exit.
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
"""How torch.distributed and Horovod say that a collective cannot end, since another rank is gone or unreachable."""


NO_MEMORY = re.compile(r"^(MemoryError|OutOfMemoryError)\b|can't allocate memory|CUDA out of memory")
"""How Python and torch say that the host or the GPU has not enough memory."""


def _of_machine(error: Exception) -> str:
    """One line for an error of torch or Horovod that the machine caused, not the code; "" for all other errors."""
    text = reason(error)
    if LOST_PEER.search(text):
        return f"another rank ended or cannot be reached; its own lines say why ({text})"
    if NO_MEMORY.search(text):
        return f"out of memory: take a smaller data.batch_size, or a larger optim.accumulate ({text})"
    return ""


def recorded(main: Callable[[], int]) -> Callable[[], int]:
    """`main`, its traceback handed to torchrun where torchrun started it: the first rank's to fail is shown last."""
    if "TORCHELASTIC_ERROR_FILE" not in os.environ:
        return main
    from torch.distributed.elastic.multiprocessing.errors import record

    return record(main)


def leave(code: int) -> NoReturn:
    """End a rank's process as `sys.exit` does, without Python taking itself apart.

    A thread of gloo lets go of a collective's tensors a moment after it has said that the collective is over, and
    needs Python for it. Should Python be ending by then, the thread is unwound through C++ that does not allow it, and
    a training that went well ends by SIGABRT.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
