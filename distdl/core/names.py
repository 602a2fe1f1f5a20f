"""Names that become parts of paths, job names and file names: checked where they are read."""

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from distdl.core.errors import UserError
from distdl.core.text import printable

MAX_LENGTH = 80
"""Maximum length of a name. A path component, to which times and numbers are added, has at most 255 bytes."""
ALLOWED = f"letters A to Z, digits and . _ + - = are allowed, at most {MAX_LENGTH}, and not only dots"
_NAME = re.compile(r"(?!\.+\Z)[A-Za-z0-9._+=-]+", re.ASCII)
_OTHERS = re.compile(r"[^A-Za-z0-9._+=-]+", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a text is one path component without characters that a shell or a batch system interprets."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """Return a name.

    Args:
        what: kind of the name, for the message.
    Raises:
        UserError: it is not a name.
    """
    if not is_name(text):
        raise UserError(f"{what} {_problem(text)}")
    return text


def as_name(text: str, default: str = "unnamed") -> str:
    """Turn any text into a name: other characters become hyphens."""
    name = _OTHERS.sub("-", text).strip(".-")[:MAX_LENGTH].rstrip(".-")
    return name or default


def _problem(text: str) -> str:
    return f'"{printable(text, MAX_LENGTH)}" is not a valid name: {ALLOWED}'


def _validated(text: str) -> str:
    if not is_name(text):
        raise PydanticCustomError("component", "{reason}", {"reason": _problem(text)})
    return text


Name = Annotated[str, AfterValidator(_validated)]
"""Type of a field with a name."""
