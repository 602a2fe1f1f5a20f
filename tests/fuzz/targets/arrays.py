"""Data sets in a few files of raw bytes: MNIST's idx files, also as .gz, and CIFAR's binary records."""

import gzip
import struct
from pathlib import Path

import numpy as np

from distdl.data.dataset import ResidentSplit
from distdl.data.sets import idx_cifar
from fuzz.run import Target

IMAGES, LABELS, CIFAR = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train.bin"


def seeds(_folder: Path) -> dict[str, bytes]:
    """20 images of 5 x 6 pixels as an idx pair, plain and compressed, and 7 records of CIFAR-100."""
    rng = np.random.default_rng(0)
    images = struct.pack(">4I", 0x803, 20, 5, 6) + rng.integers(0, 256, 600, np.uint8).tobytes()
    labels = struct.pack(">2I", 0x801, 20) + rng.integers(0, 10, 20, np.uint8).tobytes()
    records = rng.integers(0, 100, (7, 2 + 3072), np.uint8).tobytes()
    files = {IMAGES: images, LABELS: labels}
    return files | {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in files.items()} | {CIFAR: records}


def read(folder: Path, name: str) -> ResidentSplit:
    """The set that has the file."""
    return idx_cifar.cifar([folder / CIFAR], 100, 2) if name == CIFAR else idx_cifar.idx(folder, "train", 10)


def check(folder: Path, name: str, content: bytes) -> None:
    """As many images and labels as before, of the same shape; where the file has a checksum, the same.

    Raw bytes have none: a pixel may differ, and a label within its range, but only where the file was damaged.
    """
    undamaged = seeds(folder)
    for part, files in {"undamaged": undamaged, "damaged": undamaged | {name: content}}.items():
        (folder / part).mkdir()
        pair = [name] if name == CIFAR else [file for file in undamaged if file.endswith(".gz") == name.endswith(".gz")]
        for file in set(pair) - ({CIFAR} if name != CIFAR else set()):
            (folder / part / file).write_bytes(files[file])
    actual, expected = read(folder / "damaged", name), read(folder / "undamaged", name)
    assert actual.images.shape == expected.images.shape, f"shape {actual.images.shape}"
    differ = int((actual.images != expected.images).sum() + (actual.labels != expected.labels).sum())
    damaged = sum(a != b for a, b in zip(content, undamaged[name], strict=False))
    assert differ <= (0 if name.endswith(".gz") else damaged), f"{differ} values differ"


TARGET = Target(seeds=seeds, check=check, share=10)
