"""The manifest of a checkpoint: a checksum per file, valid fields, and a one-line description of any damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoint_folders import write_checkpoint
from distdl.core import manifest
from distdl.core.errors import UserError
from distdl.core.manifest import MANIFEST, STATE, Progress, damaged, digest, published, read_manifest, seal, step_of


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of step 2 with a shard."""
    return write_checkpoint(tmp_path, 2, 0.5, files={"shard-0.pt": b"shard"})


def edited(checkpoint: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Change the manifest of the checkpoint."""
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    edit(manifest)
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
    return checkpoint


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert digest(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_manifest_has_position_metric_and_the_digest_of_every_other_file(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "deep").mkdir(parents=True)
    for name in (STATE, "deep/shard-1.pt"):
        (folder / name).write_bytes(b"abc")
    seal(folder, {**vars(Progress(step=4))}, 0.25, "loss")
    manifest = read_manifest(folder)
    assert manifest["sha256"] == {name: digest(folder / STATE) for name in ("deep/shard-1.pt", STATE)}
    assert (manifest["metric"], manifest["metric_kind"]) == (0.25, "loss")
    assert Progress.of(folder) == Progress(step=4)
    assert damaged(folder) is None


def test_published_checkpoints_are_sorted_by_step_and_save(tmp_path: Path) -> None:
    names = ["step-00000002", "step-00000010", "step-00000010-2", "step-00000010-10", "step-100000000"]
    for name in reversed(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).touch()
    (tmp_path / "step-00000003").mkdir()  # without a manifest
    for name in ("step-x", "step-", "step-1.5", "step-00000002-x", "replaced-step-00000009"):
        shutil.copytree(tmp_path / names[0], tmp_path / name)
    assert [folder.name for folder in published(tmp_path)] == names
    assert published(tmp_path / "absent") == []


def test_the_step_is_parsed_from_the_name() -> None:
    assert step_of(Path("runs/step-00000010-2")) == 10
    with pytest.raises(ValueError, match="runs/good is not the name of a checkpoint"):
        step_of(Path("runs/good"))


TEXTS = {
    "a list": ("[]", "is not a manifest: not a JSON object"),
    "deep": ("[" * 100_000, "is not a manifest: RecursionError"),
    "half": ("{", "is not a manifest: JSONDecodeError"),
    "no checksums": ('{"progress": {}, "metric": null}', "sha256 is missing"),
    "a list for the progress": ('{"progress": [1], "metric": null, "sha256": {}}', "progress is not an object"),
    "no finite metric": ('{"progress": {}, "metric": NaN, "sha256": {}}', "metric is not a finite number"),
    "a huge metric": ('{"progress": {}, "metric": 1' + "0" * 400 + ', "sha256": {}}', "metric is not a finite number"),
    "a key twice": ('{"progress": {}, "progress": {}}', 'key "progress" occurs twice'),
    "not text": ("\0", "it contains a zero byte"),
    "a text for a metric": ('{"progress": {}, "metric": "high", "sha256": {}}', "metric is not a finite number"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_an_invalid_manifest_is_a_one_line_error(checkpoint: Path, text: str, message: str) -> None:
    (checkpoint / MANIFEST).write_text(text)
    with pytest.raises(UserError) as error:
        read_manifest(checkpoint)
    assert str(error.value).startswith(str(checkpoint / MANIFEST))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert (damaged(checkpoint) or "").startswith(MANIFEST)


Table = dict[str, Any]
EDITS: dict[str, tuple[Callable[[Table], object], str]] = {
    **{
        f"no {name}": (lambda manifest, name=name: manifest["progress"].pop(name), f"progress.{name} is missing")
        for name in vars(Progress())
    },
    **{
        f"without {key}": (lambda manifest, key=key: manifest.pop(key), f"{key} is missing")
        for key in ("progress", "metric", "sha256")
    },
    "a step that differs from the folder": (
        lambda manifest: manifest["progress"].update(step=7),
        "progress.step is 7 in step-00000002",
    ),
    "more epochs than steps": (lambda manifest: manifest["progress"].update(epoch=3), "progress.epoch is 3 at step 2"),
    "more samples than seen": (
        lambda manifest: manifest["progress"].update(samples=4),
        "progress.samples is 4 at images 3",
    ),
    "an unknown field": (lambda manifest: manifest["progress"].update(evil=1), "progress has the unknown field 'evil'"),
    "a fractional epoch": (lambda manifest: manifest["progress"].update(epoch=1.5), "progress.epoch is 1.5"),
    "a float for an integer": (lambda manifest: manifest["progress"].update(step=2.0), "progress.step is 2.0"),
    "a text for a number": (lambda manifest: manifest["progress"].update(step="2"), "progress.step is '2'"),
    "true for a number": (lambda manifest: manifest["progress"].update(step=True), "progress.step is True"),
    "a step before the first": (lambda manifest: manifest["progress"].update(step=-1), "progress.step is -1"),
    "time before the start": (lambda manifest: manifest["progress"].update(elapsed_s=-1), "progress.elapsed_s is -1"),
    "an infinite time": (lambda manifest: manifest["progress"].update(elapsed_s=1e999), "progress.elapsed_s is inf"),
    "null for resumes": (lambda manifest: manifest["progress"].update(resumes=None), "progress.resumes is None"),
    "no checksum": (lambda manifest: manifest["sha256"].clear(), "sha256 has no checksum of state.pt"),
    "a checksum of a shard alone": (
        lambda manifest: manifest["sha256"].pop("state.pt"),
        "sha256 has no checksum of state.pt",
    ),
    "no checksum of a shard": (lambda manifest: manifest["sha256"].pop("shard-0.pt"), "no checksum of shard-0.pt"),
    "a short checksum": (lambda manifest: manifest["sha256"].update({STATE: "0" * 63}), "not a table of checksums"),
    "a number for a checksum": (lambda manifest: manifest["sha256"].update({STATE: 5}), "not a table of checksums"),
    "another checksum": (
        lambda manifest: manifest["sha256"].update({STATE: "0" * 64}),
        "state.pt does not match its checksum",
    ),
    "a checksum of a missing file": (
        lambda manifest: manifest["sha256"].update({"shard-1.pt": "0" * 64}),
        "shard-1.pt is missing",
    ),
    "a file outside": (
        lambda manifest: manifest["sha256"].update({"a/../../x": "0" * 64}),
        "'a/../../x', a file outside the checkpoint",
    ),
    "an absolute name": (
        lambda manifest: manifest["sha256"].update({"/etc/x": "0" * 64}),
        "'/etc/x', a file outside the checkpoint",
    ),
    "a name that is too long": (lambda manifest: manifest["sha256"].update({"x" * 999: "0" * 64}), "is missing"),
    "a metric that is true": (lambda manifest: manifest.update(metric=True), "metric is not a finite number"),
    "an unknown kind of metric": (lambda manifest: manifest.update(metric_kind="f1"), "metric_kind is 'f1'"),
    "a list for the kind of metric": (lambda manifest: manifest.update(metric_kind=[1]), "metric_kind is [1]"),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_an_invalid_field_is_damage(checkpoint: Path, edit: Callable[[Table], object], message: str) -> None:
    damage = damaged(edited(checkpoint, edit))
    assert damage is not None and message in damage and "\n" not in damage
    assert str(checkpoint) not in damage  # the caller names the checkpoint


VALID: dict[str, Callable[[Table], object]] = {
    "a large loss": lambda manifest: manifest.update(metric=1e308, metric_kind="loss"),
    "no metric": lambda manifest: manifest.update(metric=None),
    "no kind of metric, as in version 1": lambda manifest: manifest.pop("metric_kind"),
    "a whole number of seconds": lambda manifest: manifest["progress"].update(elapsed_s=3),
    "an epoch per step": lambda manifest: manifest["progress"].update(epoch=2),
}


@pytest.mark.parametrize("edit", VALID.values(), ids=VALID)
def test_valid_manifests_at_the_limits(checkpoint: Path, edit: Callable[[Table], object]) -> None:
    assert damaged(edited(checkpoint, edit)) is None


def test_a_checkpoint_may_be_copied_to_a_folder_of_another_name(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "good one")
    assert damaged(copy) is None


@pytest.mark.parametrize("name", [STATE, "shard-0.pt"])
def test_a_changed_lost_or_unreadable_file_is_named(checkpoint: Path, name: str) -> None:
    file = checkpoint / name
    content = file.read_bytes()
    for changed in (content[:-1], bytes([content[0] ^ 1]) + content[1:]):
        file.write_bytes(changed)
        assert damaged(checkpoint) == f"{name} does not match its checksum"
    file.unlink()
    assert damaged(checkpoint) == f"{name} is missing"
    file.mkdir()
    assert damaged(checkpoint) == f"{name} is missing"


def test_a_file_that_cannot_be_read_is_damage(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(manifest, "open_regular", fail)
    assert damaged(checkpoint) == "shard-0.pt cannot be read: Input/output error"
