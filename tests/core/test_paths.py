"""The data root and the cache folder follow the environment; a fingerprint changes with the file."""

import os
from pathlib import Path

import pytest

from distdl.core.paths import cache_folder, data_root, fingerprint, root_origin


def test_the_cache_folder_follows_xdg_cache_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/distdl")
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        unset()
        assert cache_folder() == Path("/home/x/.cache/distdl")


def test_the_data_root_is_the_option_the_variable_or_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    for value in (None, ""):
        monkeypatch.setenv("DISTDL_DATA", value) if value is not None else monkeypatch.delenv("DISTDL_DATA", False)
        assert (data_root(), root_origin()) == (Path("/cache/distdl/data"), "the cache folder")
    monkeypatch.setenv("DISTDL_DATA", "~/sets")
    assert (data_root(), root_origin()) == (Path("/home/x/sets"), "$DISTDL_DATA")
    assert (data_root(Path("~/mine")), root_origin(Path("~/mine"))) == (Path("/home/x/mine"), "--data.root")


def test_a_fingerprint_identifies_a_version_of_a_file(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"abc")
    first = fingerprint(file)
    assert fingerprint(file) == first
    link = tmp_path / "link"
    link.symlink_to(file)
    assert fingerprint(link) == first
    status = file.stat()
    other.write_bytes(b"xyz")  # same size, time and path
    other.replace(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    replaced = fingerprint(file)
    assert replaced != first
    file.write_bytes(b"xyzz")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(file) not in (first, replaced)
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "absent")


def test_a_fingerprint_depends_on_every_part_of_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    status, seen = file.stat(), set()
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    for changed in ("", *fields):
        values = {name: getattr(status, name) + (name == changed) for name in fields}
        monkeypatch.setattr(Path, "stat", lambda _, values=values: type("Status", (), values))
        seen.add(fingerprint(file))
    assert len(seen) == 6


def test_a_name_that_is_not_utf_8_has_a_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"\xe9.jpg")
    file.touch()
    assert b"\xe9.jpg" in fingerprint(file)
