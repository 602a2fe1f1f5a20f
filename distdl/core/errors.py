"""What goes wrong for a person: one sentence that says what, where, and what to do."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_MATCHES = 8
"""Names that `nearest` lists at most."""
EXIT_DONE, EXIT_FAILED, EXIT_USER, EXIT_STOPPED = 0, 1, 2, 75
"""Exit codes that scripts rely on. 75 is sysexits' EX_TEMPFAIL: stopped in order, run it again to go on."""


class UserError(Exception):
    """Something that the person at the terminal can mend. Shown as one line, without a traceback; exit 2."""


class Failure(Exception):
    """A run that cannot go on: a loss that is not a number, a full disk. Shown as one line; exit 1."""


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
