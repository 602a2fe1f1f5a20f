"""Removal of names of users, hosts, accounts and paths from a page, so that it can be sent to others.

The names are collected from the files of the runs and of the study: what distdl has recorded about the machine, and all
values that are paths. Absolute paths and addresses are removed wherever they are.
"""

import contextlib
import dataclasses
import functools
import getpass
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from distdl.core.errors import UserError
from distdl.core.files import parse_row
from distdl.core.hosts import expand
from distdl.core.regular import lines_of, open_regular
from distdl.core.userfiles import parse_json, read_text, read_toml

PATH, USER, HOST, ACCOUNT, ADDRESS = "path", "user", "host", "account", "address"
KEYS = {HOST: r"host|node", USER: r"user", ACCOUNT: r"account"}
"""By kind of name, the keys of JSON and TOML files, and the variables of a job, whose values are such names."""
HOME = re.compile(r"(?:/home|/Users|/u|~)/?([\w.+-]+)")
"""A home folder, with the name of its user."""
ANY_PATH = re.compile(r"(?<![\w.)\]])(?:~[\w.+-]*|\.{0,2})/[^\s\"'<>|,;:()\[\]]+")
"""An absolute path, or one that starts with ~, ./ or ../."""
ANY_ADDRESS = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*")
COMMON = {"root", "user", "localhost", "none", "train", "data", "true", "false", "auto", "cpu", "cuda"}
"""Names that identify no one, and occur in other texts."""
LINES = 1000
"""Number of lines of a telemetry file in which host names are looked up; each file has the rows of one host."""
T = TypeVar("T")
Identity = tuple[str, str]
"""A text, and its kind."""


def anonymous(content: T, folders: Sequence[Path]) -> T:
    """Return the content of a page, in which names are replaced by their kind and a number: "(host 1)".

    Args:
        content: a page, or any part of one.
        folders: run folders, or the folder of a study.
    """
    kinds = {text.lower(): kind for text, kind in _names(folders)}
    numbers: Counter[str] = Counter()
    replacements = {}
    for text in sorted(kinds):
        numbers[kinds[text]] += 1
        replacements[text] = f"({kinds[text]} {numbers[kinds[text]]})"
    paths = _any_of(text for text, kind in kinds.items() if kind == PATH)
    others = _any_of(text for text, kind in kinds.items() if kind != PATH)

    def replacement(match: re.Match[str]) -> str:
        return replacements.get(match[0].lower(), f"({PATH})")

    @functools.cache
    def cleaned(text: str) -> str:
        # Paths first, because they contain names; known ones before others, because they may contain spaces.
        text = ANY_PATH.sub(f"({PATH})", paths.sub(replacement, text))
        return others.sub(replacement, ANY_ADDRESS.sub(f"({ADDRESS})", text))

    return _changed(content, cleaned)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """An expression for any of the texts as a whole word; longer ones are preferred."""
    escaped = sorted(map(re.escape, texts), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(escaped) or '(?!)'})(?!\w)", re.IGNORECASE)


def _changed(value: Any, cleaned: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _changed(each, cleaned) for name, each in fields.items()})
    if isinstance(value, Mapping):
        return {_changed(key, cleaned): _changed(each, cleaned) for key, each in value.items()}
    return type(value)(_changed(each, cleaned) for each in value) if isinstance(value, list | tuple) else value


def _names(folders: Sequence[Path]) -> Iterator[Identity]:
    """Texts that may identify someone."""
    yield from _hosts([platform.node()])
    with contextlib.suppress(KeyError, OSError):  # a user without a name
        yield from _rare(getpass.getuser(), USER)
    for path in (Path.home(), *(folder.resolve() for folder in folders)):
        yield from _of_path(str(path))
    for folder in folders:
        for file in (*folder.rglob("*.json"), *folder.rglob("*.toml")):
            for key, text in _texts(_content(file), ""):
                yield from _of_value(key, text)
        for file in folder.rglob("telemetry*.jsonl"):
            yield from _hosts(_hosts_of(file))


def _content(file: Path) -> Any:
    try:
        return read_toml(file) if file.suffix == ".toml" else parse_json(read_text(file))
    except (UserError, ValueError, RecursionError):
        return {}  # damaged, or of another program: the page has nothing of it


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, each with the key of the innermost table."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, str(name))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, key)


def _of_value(key: str, text: str) -> Iterator[Identity]:
    kind = next((kind for kind, keys in KEYS.items() if re.search(keys, key, re.IGNORECASE)), "")
    if kind == HOST:
        yield from _hosts([text])
    elif kind:
        yield from _rare(text, kind)
    if "/" in text and (len(text.split()) == 1 or text.startswith(("/", "~", "./", "../"))):
        yield from _of_path(text.partition("=")[2] if text.startswith("--") and "=" in text else text)


def _of_path(text: str) -> Iterator[Identity]:
    yield from _rare(text, PATH)
    for match in HOME.finditer(text):
        yield from _rare(match[1], USER)


def _hosts_of(file: Path) -> Iterator[str]:
    yield file.stem.partition("-")[2]
    with contextlib.suppress(OSError), open_regular(file) as source:
        for _, line in zip(range(LINES), lines_of(source), strict=False):
            row = parse_row(line)
            if row is not None and isinstance(host := row.get("host"), str):
                yield host


def _hosts(names: Iterable[str]) -> Iterator[Identity]:
    """Host names and lists of them in Slurm's form, also without their domain."""
    for name in names:
        expanded = [name]
        with contextlib.suppress(UserError):
            expanded += expand(name)
        for host in expanded:
            yield from _rare(host, HOST)
            yield from _rare(host.partition(".")[0], HOST)


def _rare(text: str, kind: str) -> Iterator[Identity]:
    if len(text) > 1 and not text.isdigit() and text.lower() not in COMMON:
        yield text, kind
