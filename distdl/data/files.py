"""Locations of encoded images, in separate files or within larger files, and reading their bytes.

A data set of a million images has a million locations. They are stored in a few arrays instead of as objects: worker
processes share arrays after a fork, whereas reading an object changes its reference count and copies its memory page.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distdl.core.regular import open_regular

BLOCK_BYTES = 8 * 2**20
"""Bytes of a large file that are read together. With 8 MiB, a seek adds a few per cent to the reading time."""


LARGEST_IMAGE = 2**30
"""Maximum size of an encoded image in bytes."""


class Unreadable(Exception):
    """An image is missing, truncated or not an image. The message names its file."""


class Part(NamedTuple):
    """An image within a larger file."""

    path: Path
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path} at byte {self.offset}"


File = Path | Part


def read(file: File) -> np.ndarray:
    """Read the bytes of an encoded image, [n] uint8.

    Raises:
        Unreadable: the file is missing, empty, shorter than expected, or larger than LARGEST_IMAGE.
    """
    try:
        if isinstance(file, Part):
            _check_size(file, file.size)
            content = np.fromfile(file.path, np.uint8, count=file.size, offset=file.offset)
            if len(content) < file.size:
                raise Unreadable(f"{file} has {len(content)} bytes of {file.size}")
        else:
            with open_regular(file) as source:
                _check_size(file, os.fstat(source.fileno()).st_size)
                content = np.fromfile(source, np.uint8)
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from None
    if not len(content):
        raise Unreadable(f"{file} is empty")
    return content


def _check_size(file: File, size: int) -> None:
    if size > LARGEST_IMAGE:  # a sparse file of any size takes no space on the disk
        raise Unreadable(f"{file} has {size:,} bytes: an image may have at most {LARGEST_IMAGE:,}")


class FilePaths:
    """Images in separate files. Their paths are stored in two arrays."""

    def __init__(self, paths: Iterable[Path]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._text = np.frombuffer(b"".join(names), np.uint8)
        self._ends = np.cumsum([0, *map(len, names)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Path:
        index = range(len(self))[index]
        return Path(os.fsdecode(self._text[self._ends[index] : self._ends[index + 1]].tobytes()))

    def __iter__(self) -> Iterator[Path]:
        return map(self.__getitem__, range(len(self)))


class ShardParts:
    """Images within a few large files: shards or records.

    Args:
        paths: the large files.
        number, offset, size: [n] int64: index of each image's file in `paths`, and its offset and size in bytes.
    """

    def __init__(self, paths: Sequence[Path], number: np.ndarray, offset: np.ndarray, size: np.ndarray) -> None:
        self.paths, self.number, self.offset, self.size = tuple(paths), number, offset, size

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, index: int) -> Part:
        return Part(self.paths[self.number[index]], int(self.offset[index]), int(self.size[index]))

    def __iter__(self) -> Iterator[Part]:
        return map(self.__getitem__, range(len(self)))

    def take(self, indices: np.ndarray) -> "ShardParts":
        """Select the images at `indices` [m]."""
        return ShardParts(self.paths, self.number[indices], self.offset[indices], self.size[indices])

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> np.ndarray:
        """Divide the images into blocks: consecutive images within `block_bytes` of one file.

        Returns:
            [blocks + 1] int64: index of the first image of each block, and the number of images.
        """
        key = self.number * 2**40 + self.offset // block_bytes
        return np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1, [len(key)]])


Files = Sequence[Path] | FilePaths | ShardParts
"""Encoded images by position."""


def compact(files: Files) -> FilePaths | ShardParts:
    """Return the same images, stored in arrays."""
    return files if isinstance(files, (FilePaths, ShardParts)) else FilePaths(files)


def take(files: Files, indices: np.ndarray) -> Files:
    """Select the images at `indices` [m]."""
    return files.take(indices) if isinstance(files, ShardParts) else [files[index] for index in indices]


def paths_of(files: Files) -> Sequence[Path] | FilePaths:
    """Return the files on disk that contain the images: one per image, or the large files."""
    return files.paths if isinstance(files, ShardParts) else files
