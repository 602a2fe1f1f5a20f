"""Data sets that a user could write."""

from pathlib import Path

import numpy as np

from distdl.data.dataset import DataSet, EncodedSplit, ResidentSplit


def stripes(*, count: int = 60, size: int = 8) -> DataSet:
    """Gray images with horizontal or vertical stripes, in memory."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 100, (count, size, size, 1), dtype=np.uint8)
    rows, columns = np.mgrid[:size, :size] % 2
    stripe = np.stack([rows, columns])[labels][..., None].astype(np.uint8)
    split = ResidentSplit(labels=labels, images=noise + 150 * stripe)
    indices = np.arange(count)
    return DataSet(
        name="stripes",
        classes=("horizontal", "vertical"),
        train=split[indices[: -count // 4]],
        test=split[indices[-count // 4 :]],
        image_size=size,
        channels=1,
        mean=(0.5,),
        std=(0.3,),
    )


def folder(*, root: Path, name: str) -> DataSet:
    """JPEG files of a folder in the data root; each file is a class."""
    files = sorted((root / name).glob("*.jpg"))
    split = EncodedSplit(labels=np.arange(len(files)), files=files)
    return DataSet(name=name, classes=tuple(file.stem for file in files), train=split, test=split, image_size=24)


def wrong() -> dict[str, object]:
    """Return a value that is not a data set."""
    return {}


def wrong_images() -> DataSet:
    """Return a data set whose images are floats, which is an error."""
    split = ResidentSplit(labels=np.zeros(4, np.int64), images=np.zeros((4, 8, 8, 1), np.float32))  # type: ignore[arg-type]
    return DataSet(name="wrong", classes=("a",), train=split, test=split, channels=1)
