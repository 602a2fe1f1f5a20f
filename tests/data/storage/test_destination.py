"""Output folders: new, interrupted, of another data set, and of other content."""

from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.core.files import as_json
from distdl.data.storage.destination import begin, find_plan

PLAN = {"data": "abc", "per_shard": 64}


def find(folder: Path, plan: dict[str, object] = PLAN) -> Path | None:
    return find_plan(folder, plan, ("done.json", "plan.json"), "shards")


def test_a_new_folder_gets_its_plan(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert find(folder) is None
    begin(folder, PLAN, "plan.json", None)
    assert [file.name for file in folder.iterdir()] == ["plan.json"]
    assert (folder / "plan.json").read_bytes() == as_json(PLAN)
    assert find(folder) == folder / "plan.json"


@pytest.mark.parametrize("name", ["plan.json", "done.json"])
def test_partial_files_of_an_earlier_process_are_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(as_json(PLAN))
    (tmp_path / "train").mkdir()
    for file in (".1.png.0123456789abcdef.tmp", "1.png", ".hidden.tmp"):
        (tmp_path / "train" / file).write_bytes(b"x")
    begin(tmp_path, PLAN, "plan.json", find(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plan.json", "train"]
    assert sorted(file.name for file in (tmp_path / "train").iterdir()) == [".hidden.tmp", "1.png"]


OTHER: dict[str, dict[str, object]] = {
    "of this data set with another --shard-mib: remove the folder": PLAN | {"per_shard": 8},
    "of another data set, or of this one before its files changed": PLAN | {"data": "x"},
}


@pytest.mark.parametrize(("message", "plan"), OTHER.items())
def test_a_folder_with_another_plan_is_refused(tmp_path: Path, message: str, plan: dict[str, object]) -> None:
    begin(tmp_path, PLAN, "plan.json", None)
    with pytest.raises(UserError, match=f"has the shards {message}"):
        find(tmp_path, plan)


def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    (tmp_path / "a\n").write_text("x")
    with pytest.raises(UserError, match=r"is not empty, it has a\\n: choose another folder with --out"):
        find(tmp_path)


def test_a_file_or_a_broken_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="is not a folder"):
        find(tmp_path / "file")
    with pytest.raises(UserError, match="is a broken link"):
        find(tmp_path / "link")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written: "):
        begin(tmp_path / "file" / "out", PLAN, "plan.json", None)
