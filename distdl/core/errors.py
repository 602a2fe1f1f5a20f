"""Errors for users: one sentence that states what is wrong, where, and what to do."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_MATCHES = 8
"""Maximum number of names that `nearest` lists."""
EXIT_DONE, EXIT_FAILED, EXIT_USER, EXIT_STOPPED = 0, 1, 2, 75
"""Exit codes, fixed for scripts. 75 is EX_TEMPFAIL of sysexits.h: stopped cleanly; run it again to continue."""


class UserError(Exception):
    """An error that the user can fix: printed as one line, without a traceback; exit code 2."""


class Failure(Exception):
    """A run that cannot continue (a non-finite loss, a full disk): printed as one line; exit code 1."""


def nearest(word: str, known: Iterable[str], quote: str = '"') -> str:
    """`; did you mean "digits"?` with the known names that `word` may mean, or "" if there is none."""
    return suggestion(close_matches(word, known), quote)


def suggestion(names: Iterable[str], quote: str = '"') -> str:
    """`; did you mean "digits"?` with these names, or "" if there is none."""
    matches = [f"{quote}{name}{quote}" for name in names]
    if not matches:
        return ""
    *others, last = matches[:MOST_MATCHES] + ["..."] * (len(matches) > MOST_MATCHES)
    return f"; did you mean {', '.join(others)}{' or ' if others and last != '...' else ', ' * bool(others)}{last}?"


def close_matches(word: str, known: Iterable[str]) -> list[str]:
    """The known names that `word` may mean.

    Names that start with `word` come before similar names: "h100" means h100-sxm or h100-pcie, and h200 is another
    product. The last part of a dotted name is enough ("lr" for "optim.lr"). Case, hyphens and underscores are ignored.
    """
    typed = _folded(word[:200])
    names = {name: _folded(name) for name in known}
    if not typed:
        return []
    if typed + "." + "name" in names.values():
        return [name for name, folded in names.items() if folded == typed + ".name"]
    if shorter := [name for name, folded in names.items() if folded == typed[:-1]]:
        return shorter  # "optim.lrr" means optim.lr, not optim.lr_reference_batch
    begins = [name for name, folded in names.items() if folded.startswith(typed)]
    ends = [name for name, folded in names.items() if folded.endswith("." + typed)]
    if begins or ends:
        return sorted(begins) or ends
    similar = difflib.get_close_matches(typed, list(names.values()), n=1, cutoff=0.6)
    return [name for name, folded in names.items() if folded in similar][:1]


def _folded(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold())


def shortened(text: str, limit: int = 200) -> str:
    """A user's text for a message; the middle of a long text is omitted."""
    return text if len(text) <= limit else f"{text[: limit - 20]}...{text[-15:]}"


def as_literal(value: object) -> str:
    """A user's value for a message, in Python notation."""
    try:
        return shortened(repr(value))
    except ValueError:  # an integer of thousands of digits
        return f"a huge {type(value).__name__}"


def missing(package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed."""
    return UserError(f"{package} is not installed; it comes with: pip install 'distdl[{extra}]'")


@contextlib.contextmanager
def reading(source: Path | str, kind: str = "") -> Iterator[None]:
    """Turn any exception that a parser raises on a user's file into one line that names the file.

    Parsers raise more exceptions than they document (struct.error, zlib.error, BadZipFile, RecursionError, ...), so
    that this context catches all. Call only the parser in it: a bug of distdl would be reported as a damaged file.

    Args:
        source: the file or folder, as the user named it.
        kind: expected kind of file for the message ("a tar archive").
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
    """The reason of an error on one line: the operating system's message, or the exception's class and message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).partition(" <_io")[0].split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
