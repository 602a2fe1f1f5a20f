"""The data root and the cache folder follow the environment; a fingerprint changes with the file."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.core.errors import UserError
from distdl.core.paths import cache_folder, current_folder, data_root, fingerprint, inside, is_inside, root_origin


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


OUTSIDE = [
    "",
    ".",
    "./",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "/",
    "/etc/passwd",
    "//x",
    "a\0b",
    "./../x",
    3,
    None,
    ["a"],
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_one_line(name: object, tmp_path: Path) -> None:
    assert not is_inside(name)
    with pytest.raises(UserError, match=f"^set.json names .*, a file outside of {tmp_path}$") as error:
        inside(tmp_path, name, "set.json")  # type: ignore[arg-type]  # a file may have any value
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["a", "a/b", ".hidden", "...", "..a", "a..", "-a", "a\n", "~", "a/./b", "a//b"])
def test_a_name_inside_is_joined(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name, "set.json") == tmp_path / name


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "/", "\0", "\n", "..."]), max_size=6).map("/".join))
def test_what_is_inside_stays_inside(name: str) -> None:
    folder = "/folder/of/the/set"
    if is_inside(name):
        assert os.path.normpath(f"{folder}/{name}").startswith(f"{folder}/")


def test_a_removed_current_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    assert current_folder() == tmp_path / "a"
    (tmp_path / "a").rmdir()
    with pytest.raises(UserError, match="the current folder was removed: change to another one"):
        current_folder()
