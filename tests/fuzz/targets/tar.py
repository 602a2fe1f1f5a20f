"""Tar shards of other programs, without set.json: three formats of names, labels next to the images."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np

from distdl.data.storage import shards
from fuzz.run import Target

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SAMPLES = 12


def seeds(_folder: Path) -> dict[str, bytes]:
    """A shard in each format: short names, long names, names that are not ASCII."""
    names = {"ustar": "{}", "gnu": "a" * 120 + "/{}", "pax": "ü/{}"}
    return {f"train-{kind}.tar": shard(FORMATS[kind], names[kind]) for kind in FORMATS}


def shard(kind: int, name: str) -> bytes:
    """A tar of SAMPLES images of up to 3 KB and their labels, 0 to 3."""
    rng, sink = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as tar:
        for number in range(SAMPLES):
            for suffix, content in (("jpg", rng.bytes(int(rng.integers(1, 3000)))), ("cls", str(number % 4).encode())):
                head = tarfile.TarInfo(f"{name.format(number)}.{suffix}")
                head.size = len(content)
                tar.addfile(head, io.BytesIO(content))
    return sink.getvalue()


def label_offsets(content: bytes) -> list[int]:
    """Offset of each label's text in a shard."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [member.offset_data for member in tar if member.name.endswith(".cls")]


def check(folder: Path, name: str, content: bytes) -> None:
    """The samples equal those of the undamaged shard, at the same offsets.

    A tar archive has no checksum of contents: an image's bytes may differ, and a label where its text was damaged.
    """
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    undamaged = seeds(folder)[name]
    (folder / name).write_bytes(undamaged)
    expected = shards.table(folder / name)
    (folder / "other").mkdir()
    (folder / "other" / name).write_bytes(content)
    actual = shards.table(folder / "other" / name)
    assert len(actual.label) == SAMPLES, f"{len(actual.label)} samples of {SAMPLES}"
    assert np.array_equal(actual.offset, expected.offset) and np.array_equal(actual.size, expected.size), (
        "other offsets"
    )
    for place, offset in enumerate(label_offsets(undamaged)):
        damaged = content[offset : offset + 1] != undamaged[offset : offset + 1]
        assert damaged or actual.label[place] == expected.label[place], f"label {place}"


TARGET = Target(seeds=seeds, check=check, share=20)
