"""Checkpoints: atomic writes, verification, and deletion of old ones."""

import os
import signal
from pathlib import Path

import torch

from distdl.core import checkpoints as stored
from distdl.core import manifest
from distdl.core.checkpoints import find
from distdl.core.manifest import read_manifest
from distdl.runtime import tensors
from distdl.runtime.tensors import load
from distdl.training.checkpoint import Checkpoints, Progress
from kill_points import kill_at


def save(checkpoints: Checkpoints, step: int, metric: float | None = None, value: float = 0.0) -> None:
    state = {"weights": torch.full((4,), float(step) + value), "lr": [0.1, (0.9, 0.999)]}
    checkpoints.save(checkpoints.begin(step), state, Progress(step=step, samples=3, images=3), metric)
    checkpoints.wait()


def silent(message: str) -> None:
    raise AssertionError(message)


def test_a_saved_checkpoint_is_loaded(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 7)
    state, progress = load(find(tmp_path, silent))
    assert torch.equal(state["weights"], torch.full((4,), 7.0))
    assert state["lr"] == [0.1, (0.9, 0.999)]
    assert progress == Progress(step=7, samples=3, images=3)


def test_the_state_may_change_during_the_write(tmp_path: Path) -> None:
    checkpoints, weights = Checkpoints(tmp_path), torch.zeros(1000)
    checkpoints.save(checkpoints.begin(1), {"weights": weights}, Progress(step=1), None)
    weights += 1
    checkpoints.wait()
    assert load(find(tmp_path, silent))[0]["weights"].sum() == 0


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, metric in enumerate([0.1, 0.9, 0.5, 0.4, None, 0.9], start=1):
        save(checkpoints, step, metric)
    assert [folder.name for folder in checkpoints.list()] == ["step-00000002", "step-00000005", "step-00000006"]
    assert stored.best(checkpoints.folder, checkpoints.kind).name == "step-00000002"


def test_a_kill_during_a_write_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    (checkpoints.begin(2) / "state.pt").write_bytes(b"half")
    assert find(tmp_path, silent).name == "step-00000001"
    save(Checkpoints(tmp_path), 2)
    assert find(tmp_path, silent).name == "step-00000002"


def test_shards_are_part_of_the_checksum(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.begin(1)
    tensors.write_tensors(checkpoints.hidden(1) / "shard-0.pt", {"error": torch.ones(3)})
    checkpoints.save(folder, {}, Progress(step=1), None)
    checkpoints.wait()
    final = find(tmp_path, silent)
    assert torch.equal(tensors.read_tensors(final / "shard-0.pt")["error"], torch.ones(3))
    (final / "shard-0.pt").write_bytes(b"x")
    assert "shard-0.pt" in manifest.damaged(final)


def saves(folder: Path, number: int, saved: Path) -> int:
    """Exit status of a process that saves six times, one step twice, until it is killed at file operation `number`."""
    child = os.fork()
    if child == 0:
        kill_at(number, saved)
        checkpoints = Checkpoints(folder, keep=1)
        for step, metric in ((1, 0.5), (2, None), (2, 0.9), (3, 0.1), (4, None), (4, 0.2)):
            save(checkpoints, step, metric)
            if checkpoints.failed:
                os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_kill_at_any_file_operation_leaves_the_published_checkpoints(tmp_path: Path) -> None:
    number, status = 0, 1
    while status:
        number += 1
        folder, saved = tmp_path / str(number), tmp_path / f"saved-{number}"
        status = saves(folder, number, saved)
        assert status in (0, signal.SIGKILL)
        steps = [int(line) for line in saved.read_text().split()] if saved.exists() else []
        if steps:
            state, progress = load(find(folder, silent))
            assert progress.step >= steps[-1]
            assert state["weights"][0] == progress.step
        if len(steps) >= 3:  # the best one is kept too
            assert stored.best_whole(folder, "", silent).name.startswith("step-00000002")
        save(Checkpoints(folder), 5)
        assert find(folder, silent).name == "step-00000005"
    assert number > 60


def test_a_second_save_of_a_step_replaces_the_first(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for metric in (None, 0.5, 0.7):
        save(checkpoints, 3, metric)
        assert [load(folder)[1].step for folder in checkpoints.list()] == [3]
    assert read_manifest(stored.best(checkpoints.folder, checkpoints.kind))["metric"] == 0.7
    assert not list(tmp_path.glob(".*"))


def test_a_failed_write_leaves_no_hidden_folder(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.begin(1)
    (folder / "state.pt").mkdir()  # prevents the state file
    checkpoints.save(folder, {}, Progress(step=1), None)
    checkpoints.wait()
    assert "step 1 was not written" in checkpoints.failed
    assert list(tmp_path.iterdir()) == []
    save(checkpoints, 2)
    assert checkpoints.failed is None
