"""Selection of the newest and the best complete checkpoint."""

from pathlib import Path

import pytest

from checkpoint_folders import write_checkpoint
from distdl.core.checkpoints import best, best_whole, find, newest
from distdl.core.errors import UserError
from distdl.core.manifest import MANIFEST, STATE


def damage(checkpoint: Path) -> None:
    (checkpoint / STATE).write_text("another state")


@pytest.mark.parametrize("name", ["checkpoints", "."])
def test_the_newest_checkpoint_of_a_run_folder_or_checkpoints_folder_is_found(tmp_path: Path, name: str) -> None:
    checkpoints = [write_checkpoint(tmp_path / name, step) for step in (9, 10)]
    assert find(tmp_path, pytest.fail) == checkpoints[1].resolve()
    assert find(checkpoints[0], pytest.fail) == checkpoints[0]


def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_one_is_used(tmp_path: Path) -> None:
    first, second = (write_checkpoint(tmp_path, step) for step in (1, 2))
    damage(second)
    messages: list[str] = []
    assert find(tmp_path, messages.append) == first
    assert messages == [
        f"checkpoint {second} is damaged (state.pt does not match its checksum); the one before it is tried"
    ]
    damage(first)
    with pytest.raises(UserError, match=f"^{tmp_path} holds no whole checkpoint$"):
        find(tmp_path, messages.append)
    assert newest(tmp_path, messages.append) is None
    assert len(messages) == 5


def test_a_damaged_checkpoint_given_by_name_is_an_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    checkpoint = write_checkpoint(tmp_path, 2)
    damage(checkpoint)
    with pytest.raises(UserError, match=f"^checkpoint {checkpoint} is damaged: state.pt does not match its checksum$"):
        find(checkpoint, pytest.fail)


def test_a_folder_without_checkpoints_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no whole checkpoint$"):  # also the error of --model.weights and export
        find(tmp_path, pytest.fail)
    with pytest.raises(UserError, match="absent holds no whole checkpoint: it does not exist"):
        find(tmp_path / "absent", pytest.fail)


@pytest.mark.parametrize(
    ("kind", "metrics", "step"),
    [
        ("accuracy", [0.1, 0.9, 0.5, None], 2),
        ("accuracy", [0.9, 0.5, 0.9], 1),
        ("loss", [0.5, 0.2, 0.7], 2),
        ("loss", [0.2, 0.5, 0.2], 1),
        ("accuracy", [0.0, -1.0], 1),
        ("accuracy", [None, None], None),
    ],
)
def test_the_best_checkpoint_is_the_first_of_equal_ones(
    tmp_path: Path, kind: str, metrics: list[float | None], step: int | None
) -> None:
    for number, metric in enumerate(metrics, start=1):
        write_checkpoint(tmp_path, number, metric, kind)
    for selected in (best(tmp_path), best(tmp_path, kind), best_whole(tmp_path, kind, pytest.fail)):
        assert selected == (tmp_path / f"step-{step:08d}" if step else None)


def test_metrics_of_another_kind_are_not_compared(tmp_path: Path) -> None:
    first, second, _ = (
        write_checkpoint(tmp_path, 1, 2.3, "loss"),
        write_checkpoint(tmp_path, 2, 0.95),
        write_checkpoint(tmp_path, 3, 0.91),
    )
    assert best(tmp_path, "accuracy") == best(tmp_path) == second  # by default the kind of the newest checkpoint
    assert best(tmp_path, "loss") == first


def test_a_manifest_of_version_1_is_accepted_for_any_kind_of_metric(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, 1, 0.5)
    text = (checkpoint / MANIFEST).read_text()
    (checkpoint / MANIFEST).write_text(text.replace('"metric_kind": "accuracy",', ""))
    assert best(tmp_path) == best(tmp_path, "loss") == checkpoint


def test_the_next_best_checkpoint_replaces_a_damaged_best(tmp_path: Path) -> None:
    second, first, broken = (
        write_checkpoint(tmp_path, step, metric) for step, metric in ((1, 0.5), (2, 0.9), (3, 0.95))
    )
    damage(first)
    (broken / MANIFEST).write_text("{")
    messages: list[str] = []
    assert best(tmp_path) == first  # reads manifests only
    assert best_whole(tmp_path, "", messages.append) == second
    assert messages == [f"checkpoint {first} is damaged (state.pt does not match its checksum); the next best is tried"]
