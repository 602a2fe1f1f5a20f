"""Make shards as other programs write them, for tests."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from distdl.data.storage.records import MAGIC, RECORD


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
    """A tar archive of files by name and content, or of other members by their headers."""
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
    """Records as MXNet's im2rec writes them, with their index."""
    content, lines = b"", []
    for number, label in enumerate(labels):
        image = png(number)
        lines.append(f"{number}\t{len(content)}\n")
        content += RECORD.pack(MAGIC, RECORD.size - 8 + len(image), 0, label, number, 0) + image
        content += bytes(-len(content) % 4)
    file.write_bytes(content)
    file.with_suffix(".idx").write_text("".join(lines))
    return file
