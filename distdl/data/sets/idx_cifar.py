"""Data sets in one or a few files of raw bytes: digits, the idx files of MNIST, CIFAR's binary layout."""

import contextlib
import gzip
import io
import math
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np

from distdl.core.errors import UserError, reading
from distdl.core.regular import open_regular
from distdl.core.userfiles import read_text
from distdl.data.dataset import ResidentSplit

LIMIT_BYTES = 8 * 2**30
"""Maximum size of one unpacked file. MNIST has 47 MB, EMNIST half a GB."""
CHUNK_BYTES = 2**20
BinaryFile = gzip.GzipFile | io.BufferedReader


def digits(*_: object) -> tuple[ResidentSplit, ResidentSplit, tuple[str, ...]]:
    """Read scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (UCI's test set); the last 360 are the test split.

    The file is read from the package's folder, since importing scikit-learn takes a second.

    Returns:
        training split, test split and class names.
    Raises:
        UserError: scikit-learn is not installed.
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise UserError("data set digits is part of scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    return (
        ResidentSplit(images=images[:-360], labels=labels[:-360]),
        ResidentSplit(images=images[-360:], labels=labels[-360:]),
        names,
    )


def idx(folder: Path, prefix: str, classes: int) -> ResidentSplit:
    """Read a pair of idx files, `prefix`-images-idx3-ubyte and `prefix`-labels-idx1-ubyte, or their .gz files.

    Raises:
        UserError: a file is missing, truncated or not an idx file, or a label is out of range.
    """
    images_path, images = _idx_array(folder, f"{prefix}-images-idx3-ubyte", dimensions=3)
    labels_path, labels = _idx_array(folder, f"{prefix}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise UserError(f"{images_path} has {len(images)} images but {labels_path.name} has {len(labels)} labels")
    return ResidentSplit(images=images[..., None], labels=check_labels(labels, classes, labels_path))


def _idx_array(folder: Path, name: str, dimensions: int) -> tuple[Path, np.ndarray]:
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise UserError(f"{folder / name} is missing (also as .gz)")
    header = 4 + 4 * dimensions
    with _opened(path) as source:
        content = source.read(header)
        # Two zero bytes, 8 for unsigned bytes, the number of dimensions, then each dimension as a big-endian int32.
        if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < header:
            raise UserError(f"{path} is not an idx file of bytes with {dimensions} dimensions: download it again")
        shape = struct.unpack(f">{dimensions}i", content[4:])
        size = math.prod(shape)
        if min(shape) < 1 or size > LIMIT_BYTES:
            raise UserError(f"{path} has a header with shape {' x '.join(map(str, shape))}: download it again")
        values = _exactly(path, source, size, "its header")
    return path, values.reshape(shape)


def cifar(paths: list[Path], classes: int, label_bytes: int) -> ResidentSplit:
    """Read records of CIFAR's binary layout: `label_bytes` (the last is the label), then 3 x 32 x 32 bytes by channel.

    Raises:
        UserError: a file is missing or truncated, or a label is out of range.
    """
    record = label_bytes + 3 * 32 * 32
    parts: list[np.ndarray] = []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing")
        size = path.stat().st_size
        if not size or size % record or size > LIMIT_BYTES:
            raise UserError(f"{path} has {size} bytes, which is not a multiple of {record}: download it again")
        with _opened(path) as source:
            parts.append(_exactly(path, source, size, "its folder").reshape(-1, record))
    labels = [check_labels(rows[:, label_bytes - 1], classes, path) for rows, path in zip(parts, paths, strict=True)]
    images = np.empty((sum(map(len, parts)), 32, 32, 3), np.uint8)
    np.concatenate([rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for rows in parts], out=images)
    return ResidentSplit(images=images, labels=np.concatenate(labels))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryFile]:
    """Open a file, decompressed if its name ends in .gz. Errors in the block become a UserError."""
    with reading(path), open_regular(path) as file:
        if path.suffix != ".gz":
            yield cast(BinaryFile, file)
            return
        with gzip.open(file) as source:
            yield source


def _exactly(path: Path, source: BinaryFile, size: int, origin: str) -> np.ndarray:
    """Read the rest of a file, which must be exactly `size` bytes: [size] uint8.

    Args:
        origin: where `size` was read, for the message.
    """
    values = np.empty(size, np.uint8)
    filled = 0
    while filled < size and (chunk := source.read(min(CHUNK_BYTES, size - filled))):
        values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    more = source.read(1)  # also verifies the checksum of a .gz
    if filled < size or more:
        count = f"more than {size}" if more else str(filled)
        raise UserError(f"{path} has {count} bytes of data, but {size} according to {origin}: download it again")
    return values


def read_names(path: Path, classes: int) -> tuple[str, ...]:
    """Read class names, one per line; without the file, classes are named by their numbers.

    Raises:
        UserError: the file is not text, or the number of different names is not that of classes.
    """
    if not path.is_file():
        return tuple(str(number) for number in range(classes))
    lines = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(set(lines)) != classes:
        raise UserError(
            f"{path} has {len(set(lines))} different class names, but the set has {classes} classes: download it again"
        )
    return lines


def check_labels(labels: np.ndarray, classes: int, path: Path) -> np.ndarray:
    """Check that labels [n] are in 0 to `classes` - 1, and return them as int64.

    Raises:
        UserError: names the first label that is out of range.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"{path}: label {labels[wrong[0]]} of sample {wrong[0]} is out of range, there are {classes} classes"
            + (f" ({len(wrong)} such labels)" if len(wrong) > 1 else "")
        )
    return labels.astype(np.int64)
