"""Shards as other programs write them."""

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.dataset import Raw
from distdl.data.storage import shards
from distdl.data.storage.records import MAGIC, RECORD

LABELS = [0, 0, 1, 0, 1, 1, 0, 1]


def png(number: int = 0) -> bytes:
    """A small image."""
    sink = io.BytesIO()
    Image.fromarray(np.full((6, 6, 3), number % 256, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def samples(labels: Iterable[object]) -> list[tuple[str, bytes]]:
    """Members NUMBER.png and NUMBER.cls for each label."""
    return [
        member
        for number, label in enumerate(labels)
        for member in ((f"{number}.png", png(number)), (f"{number}.cls", str(label).encode()))
    ]


def write_tar(file: Path, members: Iterable[tuple[str, bytes] | tarfile.TarInfo], mode: str = "w") -> Path:
    """Write a tar archive of files, given by name and content, and of other members, given by their headers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            head = tarfile.TarInfo(member[0])
            head.size = len(member[1])
            tar.addfile(head, io.BytesIO(member[1]))
    return file


def write_records(file: Path, labels: Iterable[float]) -> Path:
    """Write records and an index as MXNet's im2rec does."""
    content, lines = b"", []
    for number, label in enumerate(labels):
        image = png(number)
        lines.append(f"{number}\t{len(content)}\n")
        content += RECORD.pack(MAGIC, RECORD.size - 8 + len(image), 0, label, number, 0) + image
        content += bytes(-len(content) % 4)
    file.write_bytes(content)
    file.with_suffix(".idx").write_text("".join(lines))
    return file


def read(folder: Path) -> Raw:
    """Read the data set in a folder of shards or records."""
    return shards.read(folder, DataConfig())


def refused(folder: Path, message: str) -> None:
    """Assert that a folder of shards or records is refused, in one line."""
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def rewrite(file: Path, change: bytes, offset: int) -> None:
    """Change a file in place and restore its times, as some programs do."""
    status = file.stat()
    while file.stat().st_ctime_ns == status.st_ctime_ns:  # the kernel's clock has ticks of some milliseconds
        with file.open("r+b") as sink:
            sink.seek(offset)
            sink.write(change)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
