"""Checkpoints: whole or not at all, verified, pruned, and never executed."""

import json
from pathlib import Path

import pytest
import torch

from distdl import checkpoint
from distdl.checkpoint import Checkpoints, Progress, find, load
from distdl.errors import UserError
from distdl.manifest import digest


def save(checkpoints: Checkpoints, step: int, metric: float | None = None, value: float = 0.0) -> None:
    state = {"weights": torch.full((4,), float(step) + value), "lr": [0.1, (0.9, 0.999)]}
    checkpoints.save(checkpoints.begin(step), state, Progress(step=step, samples=3), metric)
    checkpoints.wait()


def silent(message: str) -> None:
    raise AssertionError(message)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 7)
    state, progress = load(find(tmp_path, silent))
    assert torch.equal(state["weights"], torch.full((4,), 7.0))
    assert state["lr"] == [0.1, (0.9, 0.999)]
    assert progress == Progress(step=7, samples=3)


def test_training_may_go_on_while_it_is_written(tmp_path: Path) -> None:
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
    assert checkpoints.best().name == "step-00000002"


def test_the_best_may_be_the_lowest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=9, lower_is_better=True)
    for step, metric in enumerate([0.5, 0.2, 0.7]):
        save(checkpoints, step, metric)
    assert checkpoints.best().name == "step-00000001"


def flip_a_bit(folder: Path) -> None:
    file = folder / "state.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_short(folder: Path) -> None:
    file = folder / "state.pt"
    file.write_bytes(file.read_bytes()[:-100])


def lose_the_state(folder: Path) -> None:
    (folder / "state.pt").unlink()


def spoil_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


DAMAGES = {
    flip_a_bit: "checksum",
    cut_short: "checksum",
    lose_the_state: "missing",
    spoil_the_manifest: "cannot be read",
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_newest_is_reported_and_the_one_before_is_used(tmp_path: Path, damage, says: str) -> None:
    checkpoints, told = Checkpoints(tmp_path), []
    save(checkpoints, 1)
    save(checkpoints, 2)
    damage(tmp_path / "step-00000002")
    assert find(tmp_path, told.append).name == "step-00000001"
    assert len(told) == 1
    assert "step-00000002" in told[0]
    assert says in told[0]
    damage(tmp_path / "step-00000001")
    with pytest.raises(UserError, match="no whole checkpoint"):
        find(tmp_path, told.append)


def test_a_kill_while_writing_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    (checkpoints.begin(2) / "state.pt").write_bytes(b"half")
    assert find(tmp_path, silent).name == "step-00000001"
    save(Checkpoints(tmp_path), 2)
    assert find(tmp_path, silent).name == "step-00000002"


class Evil:
    """Would write a file if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 1)
    folder = tmp_path / "step-00000001"
    torch.save({"weights": Evil()}, folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["state.pt"] = digest(folder / "state.pt")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"state.pt is damaged, or holds objects other than tensors"):
        load(folder)
    assert not Path("executed").exists()


def test_a_folder_without_checkpoints_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no whole checkpoint"):
        find(tmp_path, silent)


def test_shards_are_part_of_the_checksum(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.begin(1)
    checkpoint.write_tensors(checkpoints.hidden(1) / "shard-0.pt", {"error": torch.ones(3)})
    checkpoints.save(folder, {}, Progress(step=1), None)
    checkpoints.wait()
    final = find(tmp_path, silent)
    assert torch.equal(checkpoint.read_tensors(final / "shard-0.pt")["error"], torch.ones(3))
    (final / "shard-0.pt").write_bytes(b"x")
    assert "shard-0.pt" in checkpoint.damaged(final)
