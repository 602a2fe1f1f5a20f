"""Exporting: a set into folders of image files, PART/CLASS/NUMBER.SUFFIX, as they are or as JPEGs of one size."""

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from distdl.cores import cores
from distdl.data.base import DataSet, Split
from distdl.data.encoded import compact
from distdl.data.pack import NAMES, samples
from distdl.errors import Failure, UserError
from distdl.rundir import write_atomic

SUMS = "SHA256SUMS"
"""Sums of all files, as `sha256sum --check` takes them."""
QUALITY = 92


def export(dataset: DataSet, folder: Path, size: int | None, told: Callable[[int], None]) -> int:
    """Write a set's images as files and verify them. Returns how many there are.

    Files that are there already stay: an export that was cut off goes on, since each file is whole or not there.

    Args:
        size: None copies files as they are (images in memory become PNG); else JPEGs whose short side is so many
            pixels, 0 for the image's own.
        told: called with 1 for each image that is done.
    Raises:
        UserError: a sample cannot be read, or the folder cannot be written.
        Failure: what was written is not what is read again.
    """
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    sums: list[str] = []
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
            line = _one(split, index, folder, f"{NAMES[part]}/{labels[int(split.labels[index])]}/{index:08}", size)
            told(1)
            return line

        with ThreadPoolExecutor(cores()) as pool:
            sums += pool.map(one, range(len(split)))
    write_atomic(folder / SUMS, lambda sink: sink.write("".join(sums).encode()))
    for line in sums:
        digest, _, name = line.rstrip("\n").partition("  ")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise Failure(f"{folder / name} is not what was written to it: its disk or file server loses data")
    return len(sums)


def _one(split: Split, index: int, folder: Path, stem: str, size: int | None) -> str:
    """Write an image if it is not there; its line of sums."""
    (sample,) = samples(split, np.array([index]))
    content, suffix = sample.content, sample.suffix
    if size is not None:
        suffix = "jpg"
    file = folder / f"{stem}.{suffix}"
    if size is not None and not file.exists():
        content = as_jpeg(content, size)
    if file.exists():
        content = file.read_bytes() if size is not None else content
    else:
        beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        beside.write_bytes(content)
        beside.replace(file)
    return f"{hashlib.sha256(content).hexdigest()}  {stem}.{suffix}\n"


def as_jpeg(content: bytes, size: int) -> bytes:
    """An upright JPEG, colour or gray, whose short side is `size` pixels (0: as it is; never enlarged)."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
        upright = upright.convert("L" if upright.mode in ("1", "L", "I;16") else "RGB")
        short = min(upright.size)
        if 0 < size < short:
            wanted = [max(round(side * size / short), 1) for side in upright.size]
            upright = upright.resize(wanted, Image.Resampling.BICUBIC)
        sink = io.BytesIO()
        upright.save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()
