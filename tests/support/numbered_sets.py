"""Data sets whose labels are the numbers of the samples, so that tests can check the order."""

from pathlib import Path

import numpy as np
from PIL import Image

from distdl.data.dataset import DataSet, EncodedSplit, ResidentSplit


def pictures(n: int, height: int = 30, width: int = 40) -> np.ndarray:
    """[n, height, width, 3] uint8 smooth pictures that differ from each other."""
    rows, columns = np.mgrid[0:height, 0:width]
    phases = np.random.default_rng(0).uniform(0, 6, (n, 3))
    waves = np.sin(rows[None, :, :, None] / 5 + columns[None, :, :, None] / 7 + phases[:, None, None, :])
    return (127.5 + 120 * waves).astype(np.uint8)


def numbered(kind: str, n: int, folder: Path) -> DataSet:
    """A set of `n` training samples with labels 0 to n - 1, in memory or as JPEG files; up to 7 are the test split."""
    images, labels = pictures(n), np.arange(n)
    if kind == "memory":
        train = ResidentSplit(images=np.ascontiguousarray(images[:, :24, :24]), labels=labels)
    else:
        files = [folder / f"{number:03}.jpg" for number in range(n)]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).save(file, quality=90)
        train = EncodedSplit(files=files, labels=labels)
    classes = tuple(map(str, range(n)))
    return DataSet(
        name="numbered",
        classes=classes,
        train=train,
        test=train[np.arange(min(n, 7))],
        image_size=24,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
