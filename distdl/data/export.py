"""Exporting: a set into folders of image files, PART/CLASS/NUMBER.SUFFIX, as they are or as JPEGs of one size."""

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from distdl.cores import cores
from distdl.data import decode
from distdl.data.base import DataSet, Split
from distdl.data.encoded import File, Unreadable, compact
from distdl.data.folders import UNFINISHED
from distdl.data.image_header import read_header
from distdl.data.pack import NAMES, refuse, samples
from distdl.errors import Failure, UserError, reading, reason
from distdl.rundir import write_atomic

SUMS = "SHA256SUMS"
"""Sums of all files, as `sha256sum --check` takes them."""
QUALITY = 92
LONGEST = 65_500
"""Pixels of a JPEG's longer side at most, by libjpeg."""
GRAY = ("1", "L", "LA", "I;16", "I;16B", "I")
"""Pillow's modes of images without colour."""


def export(
    dataset: DataSet,
    folder: Path,
    size: int | None,
    told: Callable[[int], None],
    unreadable: Callable[[Unreadable], None] = refuse,
) -> int:
    """Write a set's images as files and verify them. Returns how many there are.

    Files that are there already stay: an export that was cut off goes on, since each file is whole or not there.

    Args:
        size: None copies files as they are (images in memory become PNG); else JPEGs whose short side is so many
            pixels, 0 for the image's own.
        told: called with 1 for each image that is done.
        unreadable: called for an image that cannot be read; unless it raises, the image is left out.
    Raises:
        UserError: a sample cannot be read, or the folder cannot be written.
        Failure: what was written is not what is read again.
    """
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    sums: list[str] = []
    with reading(folder, "a folder"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNFINISHED).touch()
    for part, split in ((part, split) for part, split in parts.items() if split is not None):
        labels = [name.replace("/", "_") for name in dataset.classes]
        try:
            for label in labels:
                (folder / NAMES[part] / label).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror}") from None
        lean = Split(
            labels=split.labels, images=split.images, files=None if split.images is not None else compact(split.files)
        )

        def one(index: int, split: Split = lean, part: str = part, labels: list[str] = labels) -> str:
            stem = f"{NAMES[part]}/{labels[int(split.labels[index])]}/{index:08}"
            try:
                line = _one(split, index, folder, stem, size)
            except Unreadable as error:
                unreadable(error)
                line = ""
            told(1)
            return line

        with ThreadPoolExecutor(cores()) as pool:
            sums += filter(None, pool.map(one, range(len(split))))
    write_atomic(folder / SUMS, lambda sink: sink.write("".join(sums).encode(errors="surrogateescape")))
    for line in sums:
        digest, _, name = line.rstrip("\n").partition("  ")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise Failure(f"{folder / name} is not what was written to it: its disk or file server loses data")
    (folder / UNFINISHED).unlink()
    return len(sums)


def _one(split: Split, index: int, folder: Path, stem: str, size: int | None) -> str:
    """Write an image if it is not there; its line of sums.

    Raises:
        Unreadable: it cannot be decoded.
    """
    (sample,) = samples(split, np.array([index]), _raise)
    content, suffix = sample.content, sample.suffix
    if size is not None:
        suffix = "jpg"
    file = folder / f"{stem}.{suffix}"
    if size is not None and not file.exists():
        content = as_jpeg(content, size, f"image {index}" if split.files is None else split.files[index])
    if file.exists():
        content = file.read_bytes() if size is not None else content
    else:
        beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            beside.write_bytes(content)
            beside.replace(file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise Failure(f"{file} cannot be written: {reason(error)}") from None
    return f"{hashlib.sha256(content).hexdigest()}  {stem}.{suffix}\n"


def _raise(error: Unreadable) -> None:
    raise error


def as_jpeg(content: bytes, size: int, file: File | str = "the image") -> bytes:
    """Re-encode an image as an upright JPEG, colour or gray, with the pixels that the loaders see.

    Args:
        size: pixels of the short side; 0 leaves it, and an image is never enlarged.
        file: named in errors.
    Raises:
        Unreadable: it cannot be decoded, or is too long or too wide for a JPEG.
    """
    from PIL import Image

    encoded = np.frombuffer(content, np.uint8)
    channels = 1 if read_header(file, encoded).mode in GRAY else 3
    pixels = decode.decode_content(file, encoded, channels).permute(1, 2, 0).numpy()
    upright = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    short = min(upright.size)
    if 0 < size < short:
        target = [max(round(side * size / short), 1) for side in upright.size]
        upright = upright.resize(target, Image.Resampling.BICUBIC)
    if max(upright.size) > LONGEST:
        raise Unreadable(f"{file} has {upright.width:,} x {upright.height:,} pixels, a JPEG at most {LONGEST:,} a side")
    sink = io.BytesIO()
    upright.save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()
