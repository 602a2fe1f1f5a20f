"""Checkpoints: whole or not at all, verified, pruned, and never executed."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core import checkpoints as stored
from distdl.core import manifest
from distdl.core.checkpoints import find
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.manifest import digest, read_manifest
from distdl.core.rundir import RunDir
from distdl.runtime import tensors
from distdl.runtime.tensors import load
from distdl.training.checkpoint import Checkpoints, Progress
from distdl.training.entry import locate
from killed_at import kill_at


def save(checkpoints: Checkpoints, step: int, metric: float | None = None, value: float = 0.0) -> None:
    state = {"weights": torch.full((4,), float(step) + value), "lr": [0.1, (0.9, 0.999)]}
    checkpoints.save(checkpoints.begin(step), state, Progress(step=step, samples=3, images=3), metric)
    checkpoints.wait()


def silent(message: str) -> None:
    raise AssertionError(message)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 7)
    state, progress = load(find(tmp_path, silent))
    assert torch.equal(state["weights"], torch.full((4,), 7.0))
    assert state["lr"] == [0.1, (0.9, 0.999)]
    assert progress == Progress(step=7, samples=3, images=3)


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
    assert stored.best(checkpoints.folder, checkpoints.kind).name == "step-00000002"


def test_the_best_may_be_the_lowest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=9, kind="loss")
    for step, metric in enumerate([0.5, 0.2, 0.7]):
        save(checkpoints, step, metric)
    assert stored.best(checkpoints.folder, checkpoints.kind).name == "step-00000001"


def test_metrics_of_another_kind_are_not_compared(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, keep=9, kind="loss"), 1, 2.3)
    checkpoints = Checkpoints(tmp_path, keep=9, kind="accuracy")
    save(checkpoints, 2, 0.95)
    save(checkpoints, 3, 0.91)
    assert stored.best(checkpoints.folder, checkpoints.kind).name == "step-00000002"
    assert stored.best(tmp_path).name == "step-00000002"
    assert stored.best(tmp_path, "loss").name == "step-00000001"


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
    checkpoints, warnings = Checkpoints(tmp_path), []
    save(checkpoints, 1)
    save(checkpoints, 2)
    damage(tmp_path / "step-00000002")
    assert find(tmp_path, warnings.append).name == "step-00000001"
    assert len(warnings) == 1
    assert "step-00000002" in warnings[0]
    assert says in warnings[0]
    damage(tmp_path / "step-00000001")
    with pytest.raises(UserError, match="no whole checkpoint"):
        find(tmp_path, warnings.append)


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
    with pytest.raises(UserError, match=r"no whole checkpoint$"):  # --model.weights and export find it too
        find(tmp_path, silent)
    with pytest.raises(UserError, match="no whole checkpoint: it does not exist"):
        find(tmp_path / "absent", silent)


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
    """Status of a process that saves six times, one step twice, and is killed at its `number`-th change of files."""
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


def test_a_kill_at_any_change_of_files_leaves_what_was_published(tmp_path: Path) -> None:
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
        if len(steps) >= 3:  # the best is kept too
            assert stored.best_whole(folder, "", silent).name.startswith("step-00000002")
        save(Checkpoints(folder), 5)
        assert find(folder, silent).name == "step-00000005"
    assert number > 60


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for metric in (None, 0.5, 0.7):
        save(checkpoints, 3, metric)
        assert [load(folder)[1].step for folder in checkpoints.list()] == [3]
    assert read_manifest(stored.best(checkpoints.folder, checkpoints.kind))["metric"] == 0.7
    assert not list(tmp_path.glob(".*"))


MANIFESTS = {
    "a list": "[]",
    "deep": "[" * 100_000,
    "no checksums": '{"progress": {}, "metric": null}',
    "a number for a checksum": '{"progress": {}, "metric": null, "sha256": {"state.pt": 5}}',
    "a file outside": '{"progress": {}, "metric": null, "sha256": {"../../x": "0"}}',
    "a text for a metric": '{"progress": {}, "metric": "high", "sha256": {}}',
    "no finite metric": '{"progress": {}, "metric": NaN, "sha256": {}}',
    "a list for the progress": '{"progress": [1], "metric": null, "sha256": {}}',
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_no_manifest_is_one_line(tmp_path: Path, text: str) -> None:
    checkpoints, warnings = Checkpoints(tmp_path), []
    save(checkpoints, 1, 0.4)
    save(checkpoints, 2, 0.5)
    (tmp_path / "step-00000002" / "manifest.json").write_text(text)
    assert stored.best(checkpoints.folder, checkpoints.kind).name == "step-00000001"
    assert find(tmp_path, warnings.append).name == "step-00000001"
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
    save(checkpoints, 3)


Table = dict[str, Any]
EDITS: dict[str, tuple[Callable[[Table], object], str]] = {
    **{
        f"no {name}": (lambda manifest, name=name: manifest["progress"].pop(name), f"progress.{name} is missing")
        for name in vars(Progress())
    },
    **{
        f"without {key}": (lambda manifest, key=key: manifest.pop(key), key) for key in ("progress", "metric", "sha256")
    },
    "another step than its folder": (
        lambda manifest: manifest["progress"].update(step=7),
        "step is 7 in step-00000002",
    ),
    "more epochs than steps": (lambda manifest: manifest["progress"].update(epoch=10**30), "progress.epoch"),
    "more samples than images": (lambda manifest: manifest["progress"].update(samples=10**9), "progress.samples"),
    "a part of an epoch": (lambda manifest: manifest["progress"].update(epoch=2.5), "progress.epoch is 2.5"),
    "a whole number as a fraction": (lambda manifest: manifest["progress"].update(step=2.0), "progress.step is 2.0"),
    "time before the start": (lambda manifest: manifest["progress"].update(elapsed_s=-1), "progress.elapsed_s is -1"),
    "no resumes at all": (lambda manifest: manifest["progress"].update(resumes=None), "progress.resumes is None"),
    "no checksum": (lambda manifest: manifest["sha256"].clear(), "no checksum of state.pt"),
    "a checksum of a shard alone": (
        lambda manifest: manifest.update(sha256={"shard-0.pt": manifest["sha256"]["shard-0.pt"]}),
        "no checksum of state.pt",
    ),
    "no checksum of a shard": (lambda manifest: manifest["sha256"].pop("shard-0.pt"), "no checksum of shard-0.pt"),
    "a short checksum": (lambda manifest: manifest["sha256"].update({"state.pt": "0"}), "sha256"),
    "a checksum of a file that is gone": (
        lambda manifest: manifest["sha256"].update({"shard-1.pt": "0" * 64}),
        "shard-1.pt is missing",
    ),
    "a name that no file has": (lambda manifest: manifest["sha256"].update({"x" * 999: "0" * 64}), "is missing"),
    "a metric that is true": (lambda manifest: manifest.update(metric=True), "metric"),
    "an unknown kind of metric": (lambda manifest: manifest.update(metric_kind="f1"), "metric_kind is 'f1'"),
    "a list for the kind of metric": (lambda manifest: manifest.update(metric_kind=[1]), "metric_kind"),
}


@pytest.mark.parametrize(("edit", "says"), EDITS.values(), ids=EDITS)
def test_a_manifest_with_an_odd_field_is_damaged_and_the_one_before_is_used(tmp_path: Path, edit, says: str) -> None:
    checkpoints, warnings = Checkpoints(tmp_path), []
    for step in (1, 2):
        folder = checkpoints.begin(step)
        tensors.write_tensors(checkpoints.hidden(step) / "shard-0.pt", {"error": torch.ones(3)})
        checkpoints.save(folder, {}, Progress(step=step, samples=3, images=3), 0.5)
        checkpoints.wait()
    file = tmp_path / "step-00000002" / "manifest.json"
    manifest = json.loads(file.read_text())
    edit(manifest)
    file.write_text(json.dumps(manifest))
    assert find(tmp_path, warnings.append).name == "step-00000001"
    assert len(warnings) == 1
    assert says in warnings[0]
    with pytest.raises(UserError, match="is damaged: "):
        find(file.parent, warnings.append)


def test_a_manifest_of_version_1_is_whole(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 1, 0.5)
    file = tmp_path / "step-00000001" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["metric_kind"]
    file.write_text(json.dumps(manifest))
    assert find(tmp_path, silent) == file.parent


def test_a_checkpoint_may_be_copied_to_a_folder_of_another_name(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "good one")
    assert find(tmp_path / "good one", silent) == tmp_path / "good one"


@pytest.mark.parametrize("progress", [{"evil": 1}, {"step": "3"}, {"step": -1}, {"step": True}, {"elapsed_s": 1e999}])
def test_a_position_that_is_none_is_one_line(tmp_path: Path, progress: dict) -> None:
    save(Checkpoints(tmp_path), 1)
    file = tmp_path / "step-00000001" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["progress"] |= progress
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"manifest.json is damaged: .*{next(iter(progress))}"):
        load(file.parent)


def test_folders_with_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 1)
    for name in ("step-x", "step-", "step-1.5", "step-00000002-x", "replaced-step-00000009"):
        shutil.copytree(tmp_path / "step-00000001", tmp_path / name)
    assert [folder.name for folder in Checkpoints(tmp_path).list()] == ["step-00000001"]
    assert find(tmp_path, silent).name == "step-00000001"


def test_a_write_that_failed_leaves_no_hidden_folder(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.begin(1)
    (folder / "state.pt").mkdir()  # in the way of the state
    checkpoints.save(folder, {}, Progress(step=1), None)
    checkpoints.wait()
    assert "step 1 was not written" in checkpoints.failed
    assert list(tmp_path.iterdir()) == []
    save(checkpoints, 2)
    assert checkpoints.failed is None


def test_a_restart_before_the_first_checkpoint_begins_from_the_same_other_run(tmp_path: Path) -> None:
    """As under torchrun --max-restarts: the folder has measurements, and no checkpoint of its own yet."""
    out, source, third = tmp_path / "out", tmp_path / "source", tmp_path / "third"
    for folder in (source, third):
        save(Checkpoints(folder / "checkpoints"), 3)
    run = RunDir(out)
    run.enter(Config(), strategy="single", step=3, leg={"resumed_from": str(source)})
    run.metrics({"time_s": 1.0, "step": 4, "epoch": 0, "kind": "train"})
    run.close()
    assert locate(Config(out=out, resume=str(source))).start == source / "checkpoints" / "step-00000003"
    with pytest.raises(UserError, match="outside it"):
        locate(Config(out=out, resume=str(third)))
    save(Checkpoints(out / "checkpoints"), 4)
    with pytest.raises(UserError, match="outside it"):
        locate(Config(out=out, resume=str(source)))
    assert locate(Config(out=out, resume="auto")).start == out / "checkpoints" / "step-00000004"
