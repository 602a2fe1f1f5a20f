"""The values `Split` and `DataSet`."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from distdl.data.dataset import DataSet, EncodedSplit, ResidentSplit, Split
from distdl.data.files import FilePaths, ShardParts, take


def splits(n: int, several: bool) -> list[Split]:
    """Splits with the same labels and images in memory, in files, and in parts of files; label i has image i."""
    labels = np.column_stack([np.arange(n), np.full(n, -1)]) if several else np.arange(n)
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 1))
    paths = [Path(f"{number}.png") for number in range(n)]
    number, size = np.zeros(n, np.int64), np.ones(n, np.int64)
    parts = ShardParts([Path("a.tar")], number, np.arange(n), size)
    return [
        ResidentSplit(labels=labels, images=images),
        *(EncodedSplit(labels=labels, files=files) for files in (paths, FilePaths(paths), parts)),
    ]


def sample_numbers(split: Split) -> list[int]:
    """Numbers of the images, read from the images instead of the labels."""
    if isinstance(split, ResidentSplit):
        return split.images[:, 0, 0, 0].tolist()
    if isinstance(split.files, ShardParts):
        return split.files.offset.tolist()
    return [int(file.stem) for file in split.files]


@settings(max_examples=40)
@given(some.integers(1, 9), some.booleans(), some.data())
def test_images_and_labels_stay_together(n: int, several: bool, data: some.DataObject) -> None:
    indices = np.array(data.draw(some.lists(some.integers(0, n - 1), max_size=12)), np.int64)
    for split in splits(n, several):
        assert len(split) == n
        part = split[indices]
        assert type(part) is type(split) and len(part) == len(indices)
        assert sample_numbers(part) == indices.tolist() == part.labels.T.reshape(-1)[: len(indices)].tolist()
        assert sample_numbers(part[np.arange(len(part))[::-1]]) == indices[::-1].tolist()


def test_select_takes_files_by_position() -> None:
    assert take([Path("a"), Path("b")], np.array([1])) == [Path("b")]


def test_a_data_set_has_neutral_defaults() -> None:
    split = splits(2, several=False)[0]
    dataset = DataSet(name="a", classes=("x", "y"), train=split, test=split)
    assert (dataset.validation, dataset.channels, dataset.image_size, dataset.central) == (None, 3, 224, 1.0)
    assert (dataset.mean, dataset.std, dataset.notes) == ((0.5,), (0.5,), ())
    with pytest.raises(FrozenInstanceError):
        dataset.channels = 1
