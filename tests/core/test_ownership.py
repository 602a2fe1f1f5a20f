"""A checkpoint that another user can change is reported in one line; a private one, and one in /tmp, are not."""

import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from checkpoint_folders import write_checkpoint
from distdl.core.manifest import STATE
from distdl.core.ownership import warning
from other_user import OTHER, as_other_user, needs_root, reachable_folder


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run folder with a checkpoint of step 3 that only this user can change."""
    previous = os.umask(0o022)
    folder = tmp_path / "shared" / "run"
    write_checkpoint(folder / "checkpoints", 3)
    yield folder
    os.umask(previous)


def checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "step-00000003"


PLACES: dict[str, Callable[[Path], Path]] = {
    "run": lambda run: run,
    "checkpoints": lambda run: run / "checkpoints",
    "checkpoint": checkpoint,
    "state": lambda run: checkpoint(run) / STATE,
    "manifest": lambda run: checkpoint(run) / "manifest.json",
}


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o555, 0o750])
def test_what_only_its_owner_can_change_has_no_warning(run: Path, mode: int) -> None:
    run.chmod(mode)
    assert warning(checkpoint(run)) == ""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("mode", "who"), [(0o777, "every user"), (0o702, "every user"), (0o1777, "every user")])
def test_what_every_user_can_write_is_named(run: Path, place: str, mode: int, who: str) -> None:
    path = PLACES[place](run)
    path.chmod(mode)
    message = warning(checkpoint(run))
    assert message.startswith(f"checkpoint {checkpoint(run)} can be changed by others: {path} is writable for {who} (m")
    assert message.isprintable()


@pytest.mark.parametrize("place", PLACES)
def test_what_a_group_can_write_is_named(run: Path, place: str) -> None:
    needs_root()
    path = PLACES[place](run)
    os.chown(path, -1, OTHER)
    path.chmod(0o770)
    assert f": {path} is writable for group " in warning(checkpoint(run))


def test_a_group_without_a_name_is_its_number(run: Path) -> None:
    needs_root()
    os.chown(run, -1, 4294967)
    run.chmod(0o770)
    assert f": {run} is writable for group 4294967 (" in warning(checkpoint(run))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("uid", "name"), [(OTHER, pwd.getpwuid(OTHER).pw_name), (54_321, "54321")])
def test_what_belongs_to_another_user_is_named(run: Path, place: str, uid: int, name: str) -> None:
    needs_root()
    path = PLACES[place](run)
    os.chown(path, uid, -1)
    assert f": {path} belongs to user {name}; its checksums" in warning(checkpoint(run))


def test_another_user_is_warned_of_the_owner() -> None:
    needs_root()
    with reachable_folder() as run:
        folder = write_checkpoint(run / "checkpoints", 3)
        assert f": {run} belongs to user root; its" in as_other_user(lambda: warning(folder))


def test_a_parent_that_every_user_can_write_is_named_unless_it_is_sticky(run: Path) -> None:
    run.parent.chmod(0o777)
    assert f": {run.parent} is writable for every user (mode drwxrwxrwx); its" in warning(checkpoint(run))
    run.parent.chmod(0o1777)
    assert warning(checkpoint(run)) == ""
    run.parent.chmod(0o775)
    assert warning(checkpoint(run)) == "", "the group of a project's folder"


def test_a_copied_checkpoint_is_checked_without_a_run(tmp_path: Path, run: Path) -> None:
    copied = checkpoint(run).rename(run.parent / "step-00000003")
    run.parent.chmod(0o1777)
    assert warning(copied) == ""
    (copied / STATE).chmod(0o666)
    assert f": {copied / STATE} is writable for every user" in warning(copied)


def test_a_link_is_followed_to_the_checkpoint(tmp_path: Path, run: Path) -> None:
    (tmp_path / "link").symlink_to(checkpoint(run))
    assert warning(tmp_path / "link") == ""
    run.chmod(0o777)
    assert f": {run} is writable" in warning(tmp_path / "link")
    (checkpoint(run) / "dangling").symlink_to("nothing")
    assert f": {run} is writable" in warning(tmp_path / "link")


def test_the_private_group_of_a_user_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many systems give each user a group of its own, and the umask 002."""
    needs_root()
    user = pwd.getpwuid(OTHER)
    with reachable_folder() as run:
        folder = write_checkpoint(run / "checkpoints", 3)
        for path in (run, *run.rglob("*")):
            os.chown(path, OTHER, user.pw_gid)
            path.chmod(0o775)
        assert f": {run} is writable for group " in as_other_user(lambda: warning(folder)), "nogroup has other members"
        monkeypatch.setattr("grp.getgrgid", lambda gid: type("Group", (), {"gr_name": user.pw_name}))
        assert as_other_user(lambda: warning(folder)) == ""
