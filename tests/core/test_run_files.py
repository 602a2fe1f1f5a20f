"""Files of a run folder: whether it has a run, whether it has changed, and which process uses it."""

import json
import time
from pathlib import Path

import pytest

from distdl.core.manifest import MANIFEST
from distdl.core.run_files import CHECKPOINTS, METRICS, RESULT, default_path, holds_run, in_use, version


def test_two_runs_started_in_the_same_second_have_different_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "20260102-030405")
    for name in ("digits-20260102-030405", "digits-20260102-030405-2", "digits-20260102-030405-3"):
        assert default_path("digits") == Path("runs") / name
        Path("runs", name).mkdir(parents=True)


def test_a_folder_has_a_run_after_its_first_complete_row(tmp_path: Path) -> None:
    assert not holds_run(tmp_path)
    (tmp_path / METRICS).write_text('{"step": 1')
    assert not holds_run(tmp_path)
    (tmp_path / METRICS).write_text('{"step": 1}\n')
    assert holds_run(tmp_path)


@pytest.mark.parametrize("host", ["node7", "no\tname", 7, None])
def test_the_error_for_a_folder_in_use_names_host_and_process(host: object, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(json.dumps({"status": "running", "host": host}))
    message = str(in_use(tmp_path, 42))
    assert ("on host node7" in message) == (host == "node7")
    assert "process 42" in message and "give another --out" in message and "\t" not in message


def test_a_new_checkpoint_changes_the_version(tmp_path: Path) -> None:
    first = version(tmp_path)
    assert version(tmp_path) == first
    checkpoint = tmp_path / CHECKPOINTS / "step-00000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / MANIFEST).touch()
    assert version(tmp_path) != first
