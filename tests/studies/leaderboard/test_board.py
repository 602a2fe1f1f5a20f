"""Files of a board: names in its event log stay inside, and a link is refused."""

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from distdl.core.errors import UserError
from distdl.core.names import is_name
from distdl.studies.leaderboard.board import LINEAGE, LOCK, PROCESSES, SLOTS, Session
from distdl.studies.leaderboard.rules import ReplaceWorst
from run_folders import tree


def session(folder: Path) -> Session:
    return Session(folder, ReplaceWorst(slots=2), name="trial")


def append(folder: Path, **row: Any) -> None:
    usual = {"time_s": 0.0, "step": 0, "epoch": 0, "at": 1.0, "process": "trial@x-1-2"}
    with (folder / LINEAGE).open("a", encoding="utf-8") as log:
        log.write(json.dumps(usual | row) + "\n")


@pytest.mark.parametrize("name", ["../../victim", "/tmp/victim", "..", "", "a\0b"])
def test_a_process_of_the_event_log_is_a_name_in_the_folder(tmp_path: Path, name: str) -> None:
    board = session(tmp_path / "board")
    (tmp_path / "victim").write_text("victim")
    append(tmp_path / "board", kind="begin", process=name, job="", waited_s=0.0)
    previous = tree(tmp_path)
    with pytest.raises(UserError, match=r"lineage.jsonl(:| names .*, a file outside of .*processes)") as error:
        board.refresh()
    assert str(error.value).isprintable() and tree(tmp_path) == previous


@pytest.mark.parametrize("field", ["take", "slot", "works_on"])
@pytest.mark.parametrize("value", ["../../../x", 1.5, [1], {"a": 1}])
def test_a_slot_of_the_event_log_is_a_number(tmp_path: Path, field: str, value: object) -> None:
    board = session(tmp_path / "board")
    row = {"take": 0, "slot": None, "works_on": None, "tries": 0, "member": 0, "settings": {}}
    append(tmp_path / "board", kind="take", **{**row, field: value})
    with pytest.raises(UserError, match=r"lineage.jsonl: line 2 is not a valid event"):
        board.refresh()


def test_the_name_of_the_host_is_part_of_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "../../node\n1")
    board = session(tmp_path / "board")
    (file,) = (tmp_path / "board" / PROCESSES).iterdir()
    assert file.name == board.name and is_name(board.name.replace("@", "-"))
    board.leave("completed")
    assert not list((tmp_path / "board" / PROCESSES).iterdir())


@pytest.mark.parametrize("name", [LINEAGE, LOCK])
def test_a_link_in_the_folder_of_a_board_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "victim").write_text("")
    (tmp_path / "board" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=f"{name} is a link"):
        session(tmp_path / "board")
    assert (tmp_path / "victim").read_text() == ""


def test_a_checkpoint_is_not_written_through_a_link(tmp_path: Path) -> None:
    board = session(tmp_path / "board")
    lease = board.lease()
    (tmp_path / "victim").mkdir()
    (tmp_path / "board" / SLOTS / f".take-{lease.number}").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        board.submit(
            lease, 0.5, progress={"step": 1, "epoch": 1}, write=lambda _: pytest.fail("written"), epoch_s=1, settings={}
        )
    assert not list((tmp_path / "victim").iterdir())
