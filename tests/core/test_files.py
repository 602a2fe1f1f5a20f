"""Atomic writes, and .jsonl files with complete rows."""

import errno
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.core.errors import UserError
from distdl.core.files import (
    TEMPORARY,
    append_rows,
    is_row,
    parse_row,
    read_rows,
    reopen_rows,
    write_all,
    write_atomic,
    write_json,
)
from run_folders import tree


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomic(file, lambda sink: sink.write(b"old"))

    def fail(sink: IO[bytes]) -> None:
        sink.write(b"new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        write_atomic(file, fail)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_content_is_on_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that is safe in a power failure: content, fsync, rename, fsync of the folder."""
    file, calls = tmp_path / "file", []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        is_temporary = TEMPORARY.fullmatch(place.name) is not None
        calls.append(("fsync", "temporary" if is_temporary else place, is_temporary and place.read_bytes()))
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        calls.append(("rename", target))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomic(file, lambda sink: sink.write(b"new"))
    assert calls == [("fsync", "temporary", b"new"), ("rename", file), ("fsync", tmp_path, False)]


@pytest.mark.parametrize("fails", range(4))
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_failed_rename_restores_the_replaced_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int, links: bool
) -> None:
    """Rename fails as for a mount point or an immutable file."""
    files = {tmp_path / name: lambda sink: sink.write(b"new") for name in ("a", "b", "c", "d")}
    for file in files:
        if file.name != "b":
            file.write_text("old")
    previous, replace = tree(tmp_path), Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == "abcd"[fails] and "former" not in self.name:
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: os.link("/nowhere", "/nowhere"))
    with pytest.raises(OSError, match=f"busy: '{tmp_path / 'abcd'[fails]}'"):
        write_all(files)
    assert tree(tmp_path) == previous
    monkeypatch.undo()
    write_all(files)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys("abcd", "new")


@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_a_link_with_the_name_of_the_file_is_replaced(tmp_path: Path, target: str) -> None:
    (tmp_path / "victim").write_text("victim")
    (tmp_path / "file").symlink_to(tmp_path / target)
    write_atomic(tmp_path / "file", lambda sink: sink.write(b"new"))
    assert not (tmp_path / "file").is_symlink() and (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "victim").read_text() == "victim" and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("prepare", [Path.touch, lambda path: path.symlink_to("victim"), os.mkfifo, Path.mkdir])
def test_a_temporary_file_is_never_one_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], None], durable: bool
) -> None:
    """Even if another user guesses the random name."""
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)
    (tmp_path / "victim").write_text("victim")
    prepare(tmp_path / f".file.{'0' * 16}.tmp")
    with pytest.raises(OSError, match=r"File exists|Is a directory"):
        write_atomic(tmp_path / "file", lambda sink: sink.write(b"new"), durable=durable)
    assert (tmp_path / "victim").read_text() == "victim" and not (tmp_path / "file").exists()


def test_the_temporary_name_differs_each_time(tmp_path: Path) -> None:
    names = []
    for _ in range(50):
        write_atomic(
            tmp_path / "file", lambda sink: names.append(Path(f"/proc/self/fd/{sink.fileno()}").readlink().name)
        )
    assert len(set(names)) == 50 and all(map(TEMPORARY.fullmatch, names))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, mask: int) -> None:
    previous = os.umask(mask)
    try:
        write_json(tmp_path / "new.json", {})
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o666 & ~mask


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"^.*/pipe is a device or a pipe"):
        write_atomic(tmp_path / "pipe", lambda sink: sink.write(b"new"))
    with pytest.raises(UserError, match=r"^/dev/null is a device or a pipe"):
        write_atomic(Path("/dev/null"), lambda sink: sink.write(b"new"))
    assert (tmp_path / "pipe").is_fifo() and list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_json_is_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"path": Path("a"), "n": [1]})
    assert (tmp_path / "x.json").read_text() == '{\n  "path": "a",\n  "n": [\n    1\n  ]\n}\n'


def test_an_incomplete_last_row_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert list(read_rows(file)) == []
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}')
    assert [row["step"] for row in read_rows(file)] == [1, 2]


@pytest.mark.parametrize("line", [b"\x00\xff", b"[1]", b"{", b"[" * 100_000, b""])
def test_a_damaged_row_is_an_error_with_its_number(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    rows = read_rows(file)
    assert next(rows) == {"step": 1}
    with pytest.raises(UserError, match=f"^{file}, line 2: damaged, not a JSON object$"):
        next(rows)


@pytest.mark.parametrize("incomplete", [b"", b'{"time_s": 2, "st', b"x" * 200_000, b"\0" * 65536])
@pytest.mark.parametrize("complete", [b"", b'{"time_s": 1}\n', b"y" * 70_000 + b"\n", b"z" * 65535 + b"\n"])
def test_rows_are_not_appended_to_an_incomplete_line(tmp_path: Path, complete: bytes, incomplete: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(complete + incomplete)
    with append_rows(file) as sink:
        sink.write("é\n")
    assert file.read_bytes() == complete + "é\n".encode()


def test_rows_are_appended_to_a_new_file(tmp_path: Path) -> None:
    for function in (append_rows, lambda file: reopen_rows(file, 5)):
        with function(tmp_path / "new.jsonl") as sink:
            sink.write("{}\n")
        assert (tmp_path / "new.jsonl").read_text() == "{}\n"
        (tmp_path / "new.jsonl").unlink()


def test_a_reopened_file_has_the_rows_up_to_the_step(tmp_path: Path) -> None:
    file = tmp_path / "worker-0.jsonl"
    expected = [{"step": step} for step in (1, 3, 2, 3)]
    dropped = [b'{"step": 4}', b'{"step": 2.0}', b'{"step": true}', b'{"other": 1}', b"[1]", b"\xff"]
    lines = [json.dumps(row).encode() for row in expected]
    file.write_bytes(b"\n".join([*lines[:2], *dropped, *lines[2:]]) + b'\n{"step": 1}')
    with reopen_rows(file, 3) as sink:
        sink.write('{"step": 4}\n')
    assert list(read_rows(file)) == [*expected, {"step": 4}]


@given(st.lists(st.integers(-2, 9), max_size=8), st.integers(-3, 9))
def test_rows_are_kept_depending_only_on_their_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], last: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    file = folder / "rows.jsonl"
    file.write_text("".join(f'{{"step": {step}}}\n' for step in steps))
    reopen_rows(file, last).close()
    assert [row["step"] for row in read_rows(file)] == [step for step in steps if step <= last]
    shutil.rmtree(folder)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.floats(allow_nan=False)))
def test_a_row_is_parsed_as_written(row: dict[str, Any]) -> None:
    assert parse_row(json.dumps(row).encode() + b"\n") == row


ROW = {"time_s": 1.5, "step": 3, "epoch": 0.5, "kind": "train"}


@pytest.mark.parametrize(
    "changed", [{}, {"step": 0}, {"time_s": 0}, {"epoch": 2}, {"step": 2**63 - 1}, {"kind": ""}, {"more": []}]
)
def test_a_valid_row_is_returned(changed: dict[str, Any]) -> None:
    assert is_row(ROW | changed)


@pytest.mark.parametrize(
    "changed",
    [
        *({name: value} for name in ("time_s", "step", "epoch") for value in (-1, True, "1", None, math.nan, 2**63)),
        *({"step": 3.0}, {"kind": 3}, {"kind": None}),
    ],
)
def test_an_invalid_row_gives_none(changed: dict[str, Any]) -> None:
    assert not is_row(ROW | changed)


def test_a_row_without_a_required_field_gives_none() -> None:
    for name in ROW:
        assert not is_row({key: value for key, value in ROW.items() if key != name})
    assert not any(map(is_row, (None, [], [ROW], "row", 3)))
