"""Labels from a file: selected samples, several labels per image, and errors of one line for invalid files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.augment import random_params as augment
from distdl.data.loaders import make_loader
from distdl.data.sets import relabel
from distdl.data.sets.load import load
from distdl.runtime.world import World

ONE = World(rank=0, size=1, local_rank=0, local_size=1, device=torch.device("cpu"))


def test_the_file_selects_the_training_samples_and_labels(tmp_path: Path) -> None:
    complete = load(DataConfig(name="digits"))
    relabel.write(tmp_path / "some.npz", np.array([5, 3, 3]), np.array([0, 1, 2]))
    some = load(DataConfig(name="digits", labels=tmp_path / "some.npz"))
    assert some.train.labels.tolist() == [0, 1, 2]
    assert np.array_equal(some.train.images, complete.train.images[[5, 3, 3]])
    assert np.array_equal(some.test.labels, complete.test.labels)
    assert (some.mean, some.classes) == (complete.mean, complete.classes)


def test_selecting_all_samples_once_copies_nothing(tmp_path: Path) -> None:
    complete = load(DataConfig(name="digits"))
    n = len(complete.train)
    relabel.write(tmp_path / "all.npz", np.arange(n), (complete.train.labels + 1) % 10)
    turned = load(DataConfig(name="digits", labels=tmp_path / "all.npz"))
    assert np.array_equal(turned.train.labels, (complete.train.labels + 1) % 10)
    assert np.array_equal(turned.train.images, complete.train.images)


@pytest.mark.parametrize("loader", ["resident", "torch"])
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_labels_of_an_image_divide_its_target(loader: str, mixup: float, tmp_path: Path) -> None:
    labels = np.array([[10, 2, -1], [3, -1, -1], [0, 1, 11]])
    classes = (*load(DataConfig(name="digits")).classes, "odd", "even")
    relabel.write(tmp_path / "tags.npz", np.array([7, 8, 9]), labels, classes)
    data = DataConfig(
        name="digits", labels=tmp_path / "tags.npz", batch_size=3, workers=0, augment=AugmentConfig(mixup=mixup)
    )
    dataset = load(data)
    assert dataset.classes == classes
    [batch] = make_loader(
        Config(data=DataConfig(**{**vars(data), "loader": loader})), dataset, dataset.train, ONE, training=True
    ).epoch(0)
    assert batch.labels.shape == (3, 12)
    assert torch.allclose(batch.labels.sum(1), torch.ones(3))
    expected = np.zeros((3, 12))
    expected[0, [10, 2]], expected[1, 3], expected[2, [0, 1, 11]] = 1 / 2, 1, 1 / 3
    if not mixup:
        assert np.allclose(sorted(batch.labels.tolist()), sorted(expected.tolist()))
    else:
        assert (batch.labels > 0).sum() > (expected > 0).sum()  # mixup adds labels of the previous image


def test_a_repeated_label_counts_twice() -> None:
    result = augment.shares(torch.tensor([[1, 1, 0], [2, -1, -1]]), 3)
    assert torch.allclose(result, torch.tensor([[1 / 3, 2 / 3, 0], [0, 0, 1]]))


@pytest.mark.parametrize(
    ("indices", "labels", "classes", "message"),
    [
        ([0, 1437], [0, 1], (), "not among the set's 1437"),
        ([0, -1], [0, 1], (), "not among the set's 1437"),
        ([0, 1], [0, 10], (), "there are 10 classes"),
        ([0, 1], [0, -1], (), "there are 10 classes"),
        ([0, 1], [[0, 1], [-1, -1]], (), "a sample has no label"),
        ([0, 1], [0], (), "should be [m]"),
        ([], [], (), "should be [m]"),
        ([0, 1], [0.5, 1], (), "whole numbers"),
        ([0], [0], ("one",), "do not begin with the 10 classes of the set"),
    ],
)
def test_an_invalid_label_file_is_refused(indices, labels, classes, message: str, tmp_path: Path) -> None:
    indices = np.array(indices, np.int64) if not indices else np.array(indices)
    relabel.write(
        tmp_path / "bad.npz", indices, np.array(labels, np.int64) if not labels else np.array(labels), classes
    )
    with pytest.raises(UserError) as error:
        load(DataConfig(name="digits", labels=tmp_path / "bad.npz"))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip", b"text"])
def test_a_missing_or_unreadable_label_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "labels.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"labels\.npz"):
        load(DataConfig(name="digits", labels=file))


def test_object_arrays_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", indices=np.array([print], object), labels=np.array([0]))
    with pytest.raises(UserError, match="whole numbers"):
        load(DataConfig(name="digits", labels=tmp_path / "labels.npz"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"indices": np.array([0])}, "no array labels"),
        ({"labels": np.array([0])}, "no array indices"),
        ({"indices": np.array(["0"]), "labels": np.array([0])}, "whole numbers"),
        ({"indices": np.array([True, False]), "labels": np.array([0, 1])}, "whole numbers"),
        ({"indices": np.array([0, 1]), "labels": np.array([True, False])}, "whole numbers"),
        ({"indices": np.array([0], np.uint64), "labels": np.array([0])}, "whole numbers"),
        ({"classes": np.array([["a"]])}, "list of different names"),
        ({"classes": np.array(["a", "a"])}, "list of different names"),
        ({"classes": np.arange(3)}, "list of different names"),
        ({"classes": np.array(["a", "b\x1b[31m"])}, "control characters"),
        ({"classes": np.array(["a", ""])}, "is empty"),
    ],
)
def test_an_invalid_array_is_named(arrays: dict, message: str, tmp_path: Path) -> None:
    required = {"indices": np.array([0]), "labels": np.array([0])} if "classes" in arrays else {}
    np.savez(tmp_path / "labels.npz", **required, **arrays)
    with pytest.raises(UserError, match=message) as error:
        load(DataConfig(name="digits", labels=tmp_path / "labels.npz"))
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_label_file_that_is_too_large_when_unpacked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabel, "LARGEST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "labels.npz", indices=np.zeros(10**6, np.int64), labels=np.array([0]))
    with pytest.raises(UserError, match=r"unpacks to 8,000,.* bytes"):
        load(DataConfig(name="digits", labels=tmp_path / "labels.npz"))


def test_a_label_file_excludes_other_selections_of_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="selects the training samples"):
        DataConfig(labels=tmp_path / "labels.npz", limit=10)
