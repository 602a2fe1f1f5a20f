"""The run folder: atomic files, rows after a kill, and errors."""

import json
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distdl.cli.recipe import from_command_line
from distdl.core import runlock
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.files import read_rows
from distdl.core.result import current_result
from distdl.core.run_files import CHECKPOINTS
from distdl.core.rundir import RunDir
from distdl.training.entry import locate
from other_user import OTHER, needs_root
from run_folders import tree


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Release the locks that a test still holds."""
    yield
    for lock in list(runlock._held):
        runlock.release(lock.parent)


def create(path: Path, step: int = 0) -> RunDir:
    run = RunDir(path)
    run.enter(Config(), strategy="single", environment={"cores": 3}, step=step)
    return run


def row(step: int, kind: str = "train", **values: object) -> dict[str, object]:
    return {"time_s": float(step), "step": step, "epoch": 0, "kind": kind, **values}


def test_files_of_a_run_folder_at_the_start(tmp_path: Path) -> None:
    create(tmp_path / "deep" / "run")
    assert from_command_line(["--profile", str(tmp_path / "deep/run/config.toml")], strategy="single") == Config()
    assert json.loads((tmp_path / "deep/run/environment.json").read_text()) == {"cores": 3}


@pytest.mark.skipif(os.geteuid() != 0, reason="tested as root, who may write to any other folder")
def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(UserError, match="/proc/run cannot be written"):
        create(Path("/proc/run"))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    for start in (create, lambda path: locate(Config(out=path))):
        with pytest.raises(UserError, match="cannot be written"):
            start(tmp_path / "run")


def test_a_resumed_run_does_not_record_a_step_twice(tmp_path: Path) -> None:
    run = create(tmp_path)
    for step in range(1, 6):
        run.metrics(row(step))
    run.close()
    other_host = tmp_path / "telemetry-h1.jsonl"
    other_host.write_text((tmp_path / "metrics.jsonl").read_text())
    run = create(tmp_path, step=3)
    assert [row["step"] for row in read_rows(other_host)] == [1, 2, 3]
    run.metrics(row(4))
    run.close()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize(("evaluated", "kinds"), [(True, ["train", "test"]), (False, ["train"])])
def test_an_evaluation_that_will_be_repeated_is_dropped(tmp_path: Path, evaluated: bool, kinds: list[str]) -> None:
    """A checkpoint taken before its step was evaluated: the resumed run evaluates it again."""
    run = create(tmp_path)
    for kind in ("train", "test"):
        run.metrics(row(3, kind, accuracy=0.5))
    run.metrics(row(2, "test", accuracy=0.5, best=True))  # selected at the end, and again at the next end
    run.close()
    RunDir(tmp_path).enter(Config(), strategy="single", step=3, evaluated=evaluated)
    assert [row["kind"] for row in read_rows(tmp_path / "metrics.jsonl")] == kinds


def test_damaged_rows_are_dropped_at_a_resume_and_reported_by_readers(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.metrics(row(1))
    run.close()
    metrics = tmp_path / "metrics.jsonl"
    complete = metrics.read_bytes()
    metrics.write_bytes(complete + b'\x00\xff\n[1]\n{"step": "2"}\n' + b"[" * 100_000 + b"\n" + complete)
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: damaged"):
        list(read_rows(metrics))
    create(tmp_path, step=1)
    assert metrics.read_bytes() == complete * 2


def test_a_row_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    """A kill loses no row, and another process reads it at once."""
    run = create(tmp_path)
    for step in (1, 2):
        run.metrics(row(step))
        assert [read["step"] for read in read_rows(tmp_path / "metrics.jsonl")] == [*range(1, step + 1)]
        for host, name in (("", "telemetry.jsonl"), ("h1", "telemetry-h1.jsonl")):
            run.telemetry(row(step), host)
            assert [read["step"] for read in read_rows(tmp_path / name)] == [*range(1, step + 1)]
    run.close()


def test_the_previous_configuration_and_environment_are_kept(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.metrics(row(1))
    run.close()
    (tmp_path / "environment.json").write_text('{"host": "another"}')
    first = {name: (tmp_path / name).read_bytes() for name in ("config.toml", "environment.json")}
    for epochs in (20, 30):
        run = RunDir(tmp_path)
        run.enter(Config(epochs=epochs), strategy="single", step=1, leg={"epochs": epochs})
        run.close()
    assert (tmp_path / "config.1.toml").read_bytes() == first["config.toml"]
    assert (tmp_path / "environment.1.json").read_bytes() == first["environment.json"]
    assert "epochs = 20" in (tmp_path / "config.2.toml").read_text()
    assert "epochs = 30" in (tmp_path / "config.toml").read_text()
    legs = json.loads((tmp_path / "result.json").read_text())["legs"]
    assert [leg.get("epochs") for leg in legs] == [None, 20, 30]
    assert [leg.get("status") for leg in legs] == ["killed", "killed", None]


def test_a_second_training_is_refused_and_the_kernel_releases_the_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        create(tmp_path / "run")
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    named = rf"in use by another training \(on host {platform.node()}, process {child}\)"
    for refused in (lambda: create(tmp_path / "run"), lambda: locate(Config(out=tmp_path / "run", resume="auto"))):
        previous = tree(tmp_path)
        with pytest.raises(UserError, match=named):
            refused()
        assert tree(tmp_path) == previous
    assert current_result(tmp_path / "run")["status"] == "running"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert current_result(tmp_path / "run")["status"] == "killed"
    create(tmp_path / "run")


def test_a_folder_that_changed_since_the_checkpoint_was_selected_is_refused(tmp_path: Path) -> None:
    place = locate(Config(out=tmp_path))
    create(tmp_path).close()
    with pytest.raises(UserError, match="start it again"):
        RunDir(tmp_path).enter(Config(), strategy="single", seen=place.seen)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("free", [0, 4096, 8192])
def test_a_full_disk_leaves_every_file_unchanged(tmp_path: Path, free: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], check=True)
    try:
        run = create(tmp_path / "run")
        run.metrics(row(1))
        run.close()
        (tmp_path / "ballast").write_bytes(b"x" * (shutil.disk_usage(tmp_path).free - free))
        for path in (tmp_path / "run", tmp_path / "deep" / "new"):
            previous = tree(tmp_path)
            with pytest.raises(UserError, match="No space left"):
                create(path, step=1)
            assert tree(tmp_path) == previous
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
@pytest.mark.parametrize("obstacle", ["result.json", "config.toml", "environment.json", "metrics.jsonl", "run.lock"])
def test_a_file_that_cannot_be_replaced_leaves_the_others_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str, links: bool
) -> None:
    run = create(tmp_path)
    run.metrics(row(1))
    run.close()
    (tmp_path / obstacle).unlink()
    (tmp_path / obstacle).mkdir()
    previous = tree(tmp_path)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: os.link("/nowhere", "/nowhere"))
    with pytest.raises(UserError, match=f"cannot be written: {obstacle}: Is a directory"):
        create(tmp_path, step=1)
    assert tree(tmp_path) == previous


@pytest.mark.parametrize("target", ["victim", "nothing"])
@pytest.mark.parametrize(
    "name", ["result.json", "config.toml", "environment.json", "metrics.jsonl", "telemetry-h1.jsonl", "run.lock"]
)
def test_a_link_in_the_folder_is_refused_and_neither_read_nor_written(tmp_path: Path, name: str, target: str) -> None:
    """Another user of a shared folder may put it there; a copy of its target in config.1.toml would publish it."""
    (tmp_path / "victim").write_text("secret")
    run = create(tmp_path / "run")
    run.metrics(row(1))
    run.close()
    file = tmp_path / "run" / name
    file.unlink(missing_ok=True)
    file.symlink_to(tmp_path / target)
    previous = tree(tmp_path)
    with pytest.raises(UserError, match=f"^{file} is a link, and distdl writes through no link: remove it$"):
        create(tmp_path / "run", step=1)
    assert tree(tmp_path) == previous and file.is_symlink()
    file.unlink()
    create(tmp_path / "run", step=1).close()


def test_a_pipe_for_the_measurements_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "run").close()
    os.mkfifo(tmp_path / "run" / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics.jsonl is not a regular file"):
        create(tmp_path / "run")


def test_checkpoints_are_not_written_through_a_link_of_another_user(tmp_path: Path) -> None:
    needs_root()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    link = tmp_path / "run" / CHECKPOINTS
    link.symlink_to(tmp_path / "elsewhere")
    RunDir(tmp_path / "run").enter(Config(), strategy="single")
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(UserError, match="checkpoints is a link of another user"):
        RunDir(tmp_path / "run").enter(Config(), strategy="single")
