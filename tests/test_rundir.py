"""The run folder: whole files or none, rows that survive a kill, and refusals."""

import json
import os
from pathlib import Path

import pytest

from distdl.config import Config
from distdl.errors import UserError
from distdl.resolve import from_command_line
from distdl.rundir import RunDir, default_path, read_rows, write_atomic


def create(path: Path, resume: bool = False) -> RunDir:
    return RunDir.create(path, Config(), strategy="single", resume=resume)


def test_what_a_run_folder_holds_at_the_start(tmp_path: Path) -> None:
    create(tmp_path / "deep" / "run")
    assert from_command_line(["--profile", str(tmp_path / "deep/run/config.toml")], strategy="single") == Config()
    environment = json.loads((tmp_path / "deep/run/environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["cores"] >= 1


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    create(tmp_path)
    with pytest.raises(UserError, match="--resume auto"):
        create(tmp_path)
    create(tmp_path, resume=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a read-only place that stays one")
def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(UserError, match="/proc/run cannot be written"):
        create(Path("/proc/run"))


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        create(tmp_path / "run")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomic(file, lambda sink: sink.write(b"old"))

    def fail(sink) -> None:
        sink.write(b"new")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_atomic(file, fail)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_rows_end_where_a_kill_cut_them(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_resumed_run_does_not_tell_a_step_twice(tmp_path: Path) -> None:
    run = create(tmp_path)
    for step in range(1, 6):
        run.metrics({"time_s": 0.0, "step": step, "epoch": 0, "kind": "train"})
    run.close()
    other_host = tmp_path / "telemetry-h1.jsonl"
    other_host.write_text((tmp_path / "metrics.jsonl").read_text())
    run.forget_after(3)
    assert [row["step"] for row in read_rows(other_host)] == [1, 2, 3]
    run.metrics({"time_s": 0.0, "step": 4, "epoch": 0, "kind": "train"})
    run.close()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_two_runs_in_one_second_have_two_folders() -> None:
    first = default_path("digits")
    first.mkdir(parents=True)
    assert default_path("digits") != first
