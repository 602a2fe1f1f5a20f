"""What goes wrong for a person: one sentence that says what, where, and what to do."""

import atexit
import contextlib
import difflib
import errno
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from distdl.core.text import printable

MOST_MATCHES = 8
"""Names that `nearest` lists at most."""
EXIT_DONE, EXIT_FAILED, EXIT_USER, EXIT_STOPPED = 0, 1, 2, 75
"""Exit codes that scripts rely on. 75 is sysexits' EX_TEMPFAIL: stopped in order, run it again to go on."""


class UserError(Exception):
    """Something that the person at the terminal can mend. Shown as one line, without a traceback; exit 2."""


class Failure(Exception):
    """A run that cannot go on: a loss that is not a number, a full disk. Shown as one line; exit 1."""


class Terminated(BaseException):
    """SIGTERM came to a command that has something to clean up; no `except Exception` may hold it back."""


def nearest(word: str, known: Iterable[str], quote: str = '"') -> str:
    """`; did you mean "digits"?` for the known names that `word` may stand for, or "" if there is none."""
    matches = [f"{quote}{match}{quote}" for match in close_matches(word, known)]
    if not matches:
        return ""
    *others, last = matches[:MOST_MATCHES] + ["..."] * (len(matches) > MOST_MATCHES)
    return f"; did you mean {', '.join(others)}{' or ' if others and last != '...' else ', ' * bool(others)}{last}?"


def close_matches(word: str, known: Iterable[str]) -> list[str]:
    """The known names that `word` may stand for.

    A name that begins with what was typed goes before one that is spelled alike: "h100" means h100-sxm or h100-pcie,
    and h200 is another product. Of a dotted name the last part may stand alone ("lr" for "optim.lr"). Letters' case,
    hyphens and underscores do not count.
    """
    typed = _folded(word[:200])
    names = {name: _folded(name) for name in known}
    if not typed:
        return []
    if typed + "." + "name" in names.values():
        return [name for name, folded in names.items() if folded == typed + ".name"]
    begins = [name for name, folded in names.items() if folded.startswith(typed)]
    ends = [name for name, folded in names.items() if folded.endswith("." + typed)]
    if begins or ends:
        return sorted(begins) or ends
    alike = difflib.get_close_matches(typed, list(names.values()), n=1, cutoff=0.6)
    return [name for name, folded in names.items() if folded in alike][:1]


def _folded(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold())


def shortened(text: str, limit: int = 200) -> str:
    """A user's text for a message, its middle left out if it is long."""
    return text if len(text) <= limit else f"{text[: limit - 20]}...{text[-15:]}"


def shown(value: object) -> str:
    """A user's value for a message, as Python writes it."""
    try:
        return shortened(repr(value))
    except ValueError:  # an integer of thousands of digits
        return f"a huge {type(value).__name__}"


def missing(package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed."""
    return UserError(f"{package} is not installed; it comes with: pip install 'distdl[{extra}]'")


@contextlib.contextmanager
def reading(source: Path | str, kind: str = "") -> Iterator[None]:
    """Report whatever a parser raises on a user's file as one line that names the file.

    Parsers raise far more than they document (struct.error, zlib.error, BadZipFile, RecursionError, ...): a list of
    exceptions is never complete, so that a block under this context catches them all. Keep the block small: it should
    hold the parser's call alone, or a mistake of our own would be blamed on the file.

    Args:
        source: the file or folder, as the user named it.
        kind: what it should be ("a tar archive"), named in the message.
    Raises:
        UserError: instead of any other `Exception`. A UserError or Failure passes unchanged.
    """
    try:
        yield
    except (UserError, Failure):
        raise
    except Exception as error:
        raise UserError(f"{source} cannot be read{' as ' + kind if kind else ''}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """What went wrong, on one line: the operating system's own words, or the exception's class and message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).partition(" <_io")[0].split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


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
