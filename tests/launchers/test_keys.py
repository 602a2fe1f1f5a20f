"""Files with the key of a job."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.launchers.keys import read_key


def test_a_key_is_created_once_and_only_for_its_owner() -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: read_key(Path("key")), range(32)))
    assert len(keys) == 1 and len(keys.pop()) == 32
    assert Path("key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in Path().iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_read_or_write_is_refused(mode: int) -> None:
    read_key(Path("key"))
    Path("key").chmod(mode)
    with pytest.raises(UserError, match="other users can read key, so that it is no key"):
        read_key(Path("key"))


@pytest.mark.parametrize("content", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64, "\x00" * 64])
def test_a_file_without_a_key_is_refused(content: str) -> None:
    Path("key").write_text(content, encoding="utf-8")
    Path("key").chmod(0o600)
    with pytest.raises(UserError, match="key has no key: it must be 64 hexadecimal digits"):
        read_key(Path("key"))


def test_folders_and_pipes_are_refused() -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe", 0o600)
    for name in ("folder", "pipe", "no/folder/key"):
        with pytest.raises((UserError, OSError)):
            read_key(Path(name))


def test_a_key_is_on_disk_before_it_has_the_name_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((os.fstat(number).st_size, Path("key").exists())))
    read_key(Path("key"))
    assert synced == [(65, False)]
