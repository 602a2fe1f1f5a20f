"""Files are never written through a link, and only regular files are opened."""

import ast
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distdl.core import flock, runlock
from distdl.core.errors import UserError
from distdl.core.files import append_rows, reopen_rows
from distdl.core.opening import check_folder, check_regular, open_new, open_to_append, open_to_write
from distdl.launchers.ledger import Begin, append
from distdl.studies.leaderboard.event_log import Lineage
from distdl.studies.runner import trial_lock
from other_user import OTHER, needs_root
from repository import ROOT


def link_to_a_file(file: Path) -> None:
    (file.parent / "victim").write_text("victim\n")
    file.symlink_to(file.parent / "victim")


def link_to_nothing(file: Path) -> None:
    file.symlink_to(file.parent / "victim")


def loop(file: Path) -> None:
    file.symlink_to(file)


def unix_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(file))


OBSTACLES = [link_to_a_file, link_to_nothing, loop, os.mkfifo, unix_socket]


def row(file: Path) -> None:
    append(file, Begin(time_s=0, step=0, epoch=0, at=1.0, waited_s=0.0, job="1", restart=0))


APPENDERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "open_to_append": ("x", open_to_append),
    "rows of a run": ("metrics.jsonl", append_rows),
    "rows of a server": ("server-0.jsonl", lambda file: reopen_rows(file, 3)),
    "ledger": ("slices.jsonl", row),
    "event log": ("lineage.jsonl", lambda file: Lineage(file).append("begin", "a", at=1.0, job="", waited_s=0.0)),
    "lock": ("lock", flock.acquire),
    "lock without waiting": ("lock", flock.try_acquire),
    "lock of a trial": (trial_lock.LOCK, lambda file: trial_lock.lock(file.parent)),
    "lock of a run": (runlock.LOCK, lambda file: runlock.hold(file.parent)),
}


@pytest.mark.parametrize("prepare", OBSTACLES, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("kind", APPENDERS)
def test_what_is_not_a_regular_file_is_refused(
    kind: str, prepare: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is limited to 107 characters
    name, write = APPENDERS[kind]
    file = tmp_path / name
    prepare(file)
    previous = {path.name: (os.lstat(path).st_mode, os.lstat(path).st_size) for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"^{file} is (a link|not a regular file)") as error:
        write(file)
    assert "\n" not in str(error.value)
    assert previous == {path.name: (os.lstat(path).st_mode, os.lstat(path).st_size) for path in tmp_path.iterdir()}
    if prepare is link_to_a_file:
        assert (tmp_path / "victim").read_text() == "victim\n"


@pytest.mark.parametrize("prepare", OBSTACLES, ids=lambda prepare: prepare.__name__)
def test_a_file_is_checked_without_being_opened(
    prepare: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path / "file")
    with pytest.raises(UserError, match=r"/file is (a link|not a regular file)"):
        check_regular(tmp_path / "file")
    (tmp_path / "regular").touch()
    for name in ("absent", "regular", "."):
        check_regular(tmp_path / name)


@pytest.mark.parametrize("prepare", [link_to_a_file, link_to_nothing, loop, os.mkfifo, Path.touch, Path.mkdir])
def test_a_new_file_replaces_nothing(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    prepare(tmp_path / "file")
    with pytest.raises(FileExistsError):
        open_new(tmp_path / "file")
    assert not (tmp_path / "victim").exists() or (tmp_path / "victim").read_text() == "victim\n"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_the_mode_of_a_new_file_follows_the_umask_or_the_argument(mask: int, tmp_path: Path) -> None:
    previous = os.umask(mask)
    try:
        open_new(tmp_path / "new").close()
        open_new(tmp_path / "private", 0o600).close()
        open_to_append(tmp_path / "appended").close()
    finally:
        os.umask(previous)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"new": 0o666 & ~mask, "private": 0o600 & ~mask, "appended": 0o666 & ~mask}


def test_appended_text_follows_the_content(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        with open_to_append(tmp_path / "file") as sink:
            sink.write(text)
    with open_to_append(tmp_path / "file") as source:
        source.seek(0)
        assert source.readlines() == [b"one\n", b"two\n"]


def test_other_errors_are_those_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_to_write(tmp_path / "absent", os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        open_to_append(tmp_path)


WRITES = (
    "write_text",
    "write_bytes",
    "copyfile",
    "copy2",
    "copytree",
    "NamedTemporaryFile",
    "mkstemp",
    "save_file",
)
ALLOWED = {
    "core/files.py: copy2": "to a random name",
    "core/opening.py: os.open": "the primitive",
    "data/storage/archives.py: open": "in a new folder of this process",
    "launchers/netns.py: open": "in a folder that root alone can write",
    "launchers/netns.py: write_text": "in a folder that root alone can write",
    "launchers/netns.py: copytree": "in a folder that root alone can write",
}
"""Calls that write a file without distdl.core.files or distdl.core.opening, and why."""


def calls(file: Path) -> Iterator[str]:
    """Calls in a module that may create or overwrite a file."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            short = name.rpartition(".")[2]
            texts = [ast.unparse(each) for each in (*node.args, *(keyword.value for keyword in node.keywords))]
            if short in WRITES and "." in name:
                yield short
            elif name == "os.open" and any("O_CREAT" in text and "O_EXCL" not in text for text in texts):
                yield name
            elif short == "open" and any(re.fullmatch(r"'[rbt+]*[wax][wbt+]*'", text) for text in texts):
                yield short


def test_files_are_written_only_by_the_primitives() -> None:
    package = ROOT / "distdl"
    listed = {f"{file.relative_to(package)}: {call}" for file in package.rglob("*.py") for call in calls(file)}
    assert len(listed) >= 5, "the search finds nothing"
    assert listed - ALLOWED.keys() == set(), "use distdl.core.files or distdl.core.opening"


@pytest.mark.parametrize("target", ["folder", "nothing"])
def test_a_link_of_another_user_is_no_folder_to_write_into(target: str, tmp_path: Path) -> None:
    needs_root()
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    for place in (tmp_path / "folder", tmp_path / "absent", link):
        check_folder(place)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(UserError, match="is a link of another user, and distdl writes through no such link"):
        check_folder(link)
