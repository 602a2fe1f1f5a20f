"""Verification of a data set: every image can be decoded, no image occurs twice, and packed files match their sums."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import File, Unreadable, compact, read
from distdl.data.storage import decode, shards
from distdl.data.storage.pool import surviving_map

KINDS = ("file", "unreadable", "leak", "label conflict", "duplicate")
"""Kinds of findings, the most severe first."""
BATCH = 32
"""Images per request to a process: milliseconds of work for microseconds of transfer."""
DIGEST_BYTES = 16
"""Size of an image's digest: among a billion different images, two have the same one with a probability of 1e-21."""


class DataFinding(NamedTuple):
    """A fault of a data set."""

    kind: str
    """One of KINDS. A leak is a duplicate between splits, a label conflict one between classes."""
    split: str
    """Empty for a file with several images."""
    image: str
    reason: str


@dataclass(kw_only=True)
class Report:
    """Result of a verification."""

    images: dict[str, int]
    """Number of images by split."""
    counts: dict[str, list[int]]
    """Number of images per class, by split."""
    findings: list[DataFinding] = field(default_factory=list)
    width: tuple[int, int] = (0, 0)
    """Smallest and largest, in pixels, of the readable images."""
    height: tuple[int, int] = (0, 0)


class ImageCheck(NamedTuple):
    """Result of reading and decoding one image."""

    digest: bytes
    """Digest of the encoded bytes; empty if they cannot be read."""
    height: int
    width: int
    fault: str
    """Why it cannot be decoded; empty if it can."""


def verify(dataset: DataSet, packed: Path | None, processes: int, progress: Callable[[int], None]) -> Report:
    """Check every image of a data set. It needs 16 bytes of memory per image.

    Args:
        packed: folder of the data set if it is packed; its files are then checked too.
        processes: number of decoding processes.
        progress: called with the number of images checked since the last call.
    """
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    present = {name: split for name, split in splits.items() if split is not None}
    report = Report(
        images={name: len(split) for name, split in present.items()},
        counts={
            name: np.bincount(split.labels, minlength=len(dataset.classes)).tolist() for name, split in present.items()
        },
    )
    if packed is not None:
        report.findings += (DataFinding("file", "", "", reason) for reason in shards.verify(packed))
    digests = {}
    for name, split in present.items():
        digests[name] = np.zeros((len(split), DIGEST_BYTES), np.uint8)
        faults: dict[int, str] = {}
        for index, result in _examine(split, dataset.channels, processes):
            digests[name][index] = np.frombuffer(result.digest or bytes(DIGEST_BYTES), np.uint8)
            if result.fault:
                faults[index] = result.fault
            else:
                report.width = _widened(report.width, result.width)
                report.height = _widened(report.height, result.height)
            progress(1)
        report.findings += (
            DataFinding("unreadable", name, _name(split, index), faults[index]) for index in sorted(faults)
        )
    report.findings += _duplicates(present, digests, dataset.classes)
    report.findings.sort(key=lambda finding: (KINDS.index(finding.kind), [*splits, ""].index(finding.split)))
    return report


def _examine(split: Split, channels: int, processes: int) -> Iterator[tuple[int, ImageCheck]]:
    if isinstance(split, ResidentSplit):
        height, width = split.images.shape[1:3]
        for index, image in enumerate(split.images):
            yield index, ImageCheck(_digest(np.ascontiguousarray(image)), height, width, "")
        return
    files = enumerate(compact(split.files))
    batches = iter(lambda: list(islice(files, BATCH)), [])
    for batch, results in surviving_map(partial(_examine_batch, channels), batches, processes):
        if results is None:
            reason = "crashes the process that decodes it: it is damaged or needs too much memory"
            results = [ImageCheck(b"", 0, 0, reason)]
        yield from ((index, result) for (index, _), result in zip(batch, results, strict=True))


def _examine_batch(channels: int, batch: Sequence[tuple[int, File]]) -> list[ImageCheck]:
    return [examine(file, channels) for _, file in batch]


def examine(file: File, channels: int) -> ImageCheck:
    """Read and decode one image."""
    digest = b""
    try:
        digest = _digest(read(file))
        image = decode.decode(file, channels)
    except Unreadable as error:
        return ImageCheck(digest, 0, 0, str(error))
    return ImageCheck(digest, image.shape[1], image.shape[2], "")


def _digest(content: np.ndarray) -> bytes:
    return hashlib.blake2b(content.data, digest_size=DIGEST_BYTES).digest()


def _widened(bounds: tuple[int, int], value: int) -> tuple[int, int]:
    return (min(bounds[0] or value, value), max(bounds[1], value))


def _name(split: Split, index: int) -> str:
    return f"image {index}" if isinstance(split, ResidentSplit) else str(split.files[index])


def _duplicates(
    splits: dict[str, Split], digests: dict[str, np.ndarray], classes: tuple[str, ...]
) -> Iterator[DataFinding]:
    """Find images with the same bytes as an earlier image, in the order train, validation, test."""
    names = list(splits)
    rows = np.concatenate([digests[name] for name in names])
    split_of = np.repeat(np.arange(len(names)), [len(digests[name]) for name in names])
    index_of = np.concatenate([np.arange(len(digests[name])) for name in names])
    order = np.lexsort(rows.T[::-1])  # a stable sort: among equal digests, the earliest image comes first
    ordered = rows[order]
    equal = (ordered[1:] == ordered[:-1]).all(1) & ordered[1:].any(1)
    first = order[0] if len(order) else 0
    for position, same in enumerate(equal, 1):
        if not same:
            first = order[position]
            continue
        duplicate = order[position]
        (name, index), (earlier, original) = ((names[split_of[row]], int(index_of[row])) for row in (duplicate, first))
        label, known = (classes[splits[part].labels[row]] for part, row in ((name, index), (earlier, original)))
        kind = "leak" if name != earlier else "label conflict" if label != known else "duplicate"
        reason = f"has the same bytes as {_name(splits[earlier], original)} ({earlier}, class {known})"
        yield DataFinding(
            kind, name, _name(splits[name], index), f"{reason}, but its class is {label}" if label != known else reason
        )
