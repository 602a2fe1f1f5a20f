"""Packing of a data set into tar shards or records, shard by shard, so that an interrupted call can be resumed."""

import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from distdl.core.counter_rng import generator
from distdl.core.errors import Failure, UserError, reading
from distdl.core.files import write_atomic, write_json
from distdl.core.regular import read_regular
from distdl.core.userfiles import read_text
from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import Unreadable, read
from distdl.data.storage.destination import begin, check_class_names, find_plan, fingerprint, parts_of, report_omitted
from distdl.data.storage.image_header import read_header
from distdl.data.storage.records import LENGTH_BITS, MAGIC, RECORD, scan_records
from distdl.data.storage.set_file import (
    MANIFEST,
    SUFFIX,
    SetFile,
    Shard,
    is_class_name,
    read_set_file,
    validate,
    write_set_file,
)
from distdl.data.storage.shards import file_sum
from distdl.data.storage.tables import SampleTable, write_table
from distdl.data.storage.tar_shard import scan_tar
from distdl.data.storage.tree import SUFFIXES

PLAN = "plan.json"
"""File with the plan of an unfinished packing."""
FINISHED = "pack.json"
"""File with the plan of a finished packing."""
NAMES = {"train": "train", "validation": "val", "test": "test"}
SUFFIX_OF = {format: suffix[1:] for suffix, format in reversed(SUFFIXES.items())}
SUFFIX_OF["MPO"] = SUFFIX_OF["JPEG"]
BLOCK = tarfile.BLOCKSIZE


class Sample(NamedTuple):
    """One encoded sample."""

    number: int
    label: int
    content: bytes
    suffix: str


class Packed(NamedTuple):
    """The result of a packing."""

    described: SetFile
    """The content of set.json."""
    unchanged: bool
    """Whether a previous call had finished it, so that nothing was written."""


def refuse(error: Unreadable) -> None:
    """Stop at an unreadable sample.

    Raises:
        UserError: always.
    """
    raise UserError(f"{error}: fix it or remove it from the set (--on-error skip leaves it out)") from None


def pack(
    dataset: DataSet,
    folder: Path,
    kind: str,
    shard_bytes: int,
    progress: Callable[[int], None],
    unreadable: Callable[[Unreadable], None] = refuse,
) -> Packed:
    """Write a data set to `folder` and verify it by reading it again. A finished set is only verified.

    Training samples are shuffled with a fixed seed, so that each shard is a random sample of the data set; other splits
    keep their order.

    Args:
        kind: shards or records.
        shard_bytes: approximate size of a shard.
        progress: called with the number of samples of each finished shard, including those of a previous call.
        unreadable: called, possibly more than once, for a file that cannot be read; if it does not raise, the sample is
            left out.
    Raises:
        UserError: the folder has other content, a sample cannot be read, or a split has no readable samples.
        Failure: a shard that was read again differs from what was written.
    """
    parts = parts_of(dataset)
    if any(split.labels.ndim > 1 for split in parts.values()):
        raise UserError("a set with several labels per image cannot be packed: omit data.labels")
    invalid = [name for name in dataset.classes if not is_class_name(name)]
    if invalid:
        raise UserError(f"class {invalid[0]!r} cannot be packed: its name is empty, too long or has control characters")
    check_class_names(dataset)
    per_shard = {part: max(1, int(shard_bytes / _mean_bytes(part, split, unreadable))) for part, split in parts.items()}
    plan = {"name": dataset.name, "kind": kind, "per_shard": per_shard, "source": fingerprint(dataset)}
    previous = find_plan(folder, plan, (PLAN, FINISHED), "packing")
    if finished := _finished(folder, previous):
        report_omitted(folder, dataset, sum(shard.samples for shard in finished.shards()), unreadable)
        return Packed(finished, unchanged=True)
    begin(folder, plan, PLAN, previous)
    rows: dict[str, list[Shard]] = {}
    for part, split in parts.items():
        rows[part] = []
        sequence = generator().permutation(len(split))
        sequence = sequence if part == "train" else np.arange(len(split))
        for number, first in enumerate(range(0, len(split), per_shard[part])):
            members = sequence[first : first + per_shard[part]]
            file = folder / f"{NAMES[part]}-{number:05}{SUFFIX[kind]}"
            if row := _shard(file, samples(split, members, unreadable), len(members)):
                rows[part].append(row)
            progress(len(members))
        if kind == "records":
            _index_all(folder, NAMES[part], rows[part])
    name = os.fsencode(dataset.name).decode(errors="replace")
    fields = {"name": name, "kind": kind, "classes": dataset.classes, "channels": dataset.channels}
    fields |= {"image_size": dataset.image_size, "central": dataset.central, "mean": dataset.mean, "std": dataset.std}
    fields |= {"parts": {part: [shard.model_dump() for shard in shards] for part, shards in rows.items()}}
    described = validate(json.dumps(fields).encode(), str(folder / MANIFEST))
    write_set_file(folder, described)
    for rest in folder.glob("*.done"):
        rest.unlink(missing_ok=True)
    (folder / PLAN).replace(folder / FINISHED)
    return Packed(described, unchanged=False)


def _finished(folder: Path, plan: Path | None) -> SetFile | None:
    """The content of set.json if the packing is finished and every file in it, with index and table, is unchanged."""
    if plan != folder / FINISHED or (described := read_set_file(folder)) is None:
        return None
    for shard in described.shards():
        files = [(folder / shard.file).with_suffix(suffix) for suffix in (SUFFIX[described.kind], ".idx", ".npz")]
        if not all(file.is_file() for file in files) or file_sum(files[0]) != shard.sha256:
            return None
    return described


def _mean_bytes(part: str, split: Split, unreadable: Callable[[Unreadable], None]) -> float:
    """Estimate the mean size of a split's samples in bytes.

    Raises:
        UserError: all of them are unreadable.
    """
    picks = np.unique(np.linspace(0, len(split) - 1, min(200, len(split))).astype(int))
    sizes = [len(sample.content) for sample in samples(split, picks, unreadable)]
    sizes = sizes or [len(first_readable(part, samples(split, np.arange(len(split)), unreadable)).content)]
    return float(np.mean(sizes))


def first_readable(part: str, contents: Iterator[Any]) -> Any:
    """Return the first readable sample of a split.

    Raises:
        UserError: there is none, so the split would have no images.
    """
    for content in contents:
        return content
    raise UserError(
        f"every image of part {part} is unreadable (distdl data verify names them): fix them, or remove the part from "
        "the set"
    )


def samples(split: Split, indices: np.ndarray, unreadable: Callable[[Unreadable], None] = refuse) -> Iterator[Sample]:
    """Yield encoded samples: files unchanged, images in memory as PNG.

    Args:
        unreadable: called for a file that cannot be read or is not an image; if it does not raise, the sample is left
            out.
    """
    for index in indices.tolist():
        if isinstance(split, ResidentSplit):
            from PIL import Image

            image, sink = split.images[index], io.BytesIO()
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(sink, "PNG")
            content, suffix = sink.getvalue(), "png"
        else:
            file = split.files[index]
            try:
                encoded = read(file)
                format = read_header(file, encoded).format
            except Unreadable as error:
                unreadable(error)
                continue
            content, suffix = encoded.tobytes(), SUFFIX_OF[format]
        yield Sample(index, int(split.labels[index]), content, suffix)


def _shard(file: Path, members: Iterator[Sample], count: int) -> Shard | None:
    """Write one shard, its index and its table, unless a previous call has written them.

    Args:
        count: number of `members` including unreadable ones. If some are unreadable, the shard is written again, so
            that each call reports them.
    Returns:
        the shard's row of set.json; None if all members are unreadable, so that there is no shard.
    """
    done = file.with_suffix(".done")
    if done.exists() and file.exists():
        with reading(done, "the record of a packed shard"):
            row = Shard.model_validate_json(read_regular(done))
        if row.samples == count and file_sum(file) == row.sha256:
            return row
    first = next(members, None)
    if first is None:
        return None
    members = itertools.chain([first], members)
    write, scan = (_write_tar, scan_tar) if file.suffix == SUFFIX["shards"] else (_write_records, scan_records)
    state: dict[str, Any] = {}

    def fill(sink: IO[bytes]) -> None:
        hashing = _HashingSink(sink)
        state["rows"], state["index"] = write(hashing, members)
        state["sha256"] = hashing.digest.hexdigest()

    write_atomic(file, fill)
    written = SampleTable.of(state["rows"], sha256=state["sha256"])
    write_atomic(file.with_suffix(".idx"), lambda sink: sink.write(state["index"].encode()))
    write_table(file.with_suffix(".npz"), written)
    # Disks and file servers can lose data without an error: the shard is read again and compared sample by sample.
    if file_sum(file) != state["sha256"] or not scan(file).same_samples(written):
        raise Failure(f"{file} differs from what was written: the disk or file server loses data")
    row = Shard(file=file.name, samples=len(written), bytes=file.stat().st_size, sha256=state["sha256"])
    write_json(done, row.model_dump())
    return row


def _index_all(folder: Path, name: str, rows: list[Shard]) -> None:
    """Write one index for all files of a split as if they were one file, which is what DALI's reader needs."""
    lines, previous_bytes, samples = [], 0, 0
    for row in rows:
        for line in read_text((folder / row.file).with_suffix(".idx")).splitlines():
            number, start = map(int, line.split())
            lines.append(f"{samples + number}\t{previous_bytes + start}\n")
        previous_bytes, samples = previous_bytes + row.bytes, samples + row.samples
    write_atomic(folder / f"{name}.idx", lambda sink: sink.write("".join(lines).encode()))


class _HashingSink:
    """Writes bytes to `sink` and computes their SHA-256."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.sink, self.digest, self.position = sink, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.position += len(content)
        return self.sink.write(content)


def _write_tar(sink: _HashingSink, members: Iterator[Sample]) -> tuple[list[tuple[int, int, int]], str]:
    """Write a tar shard. Returns rows of a table, and the index for DALI's WebDataset reader (wds2idx, version 1.2)."""
    rows, lines = [], []
    for sample in members:
        key, fields = f"{sample.number:08}", []
        for suffix, content in ((sample.suffix, sample.content), ("cls", str(sample.label).encode())):
            head = tarfile.TarInfo(f"{key}.{suffix}")
            head.size = len(content)
            sink.write(head.tobuf(tarfile.USTAR_FORMAT))
            fields.append(f"{suffix} {sink.position} {len(content)} {head.name}")
            if suffix != "cls":
                rows.append((sink.position, len(content), sample.label))
            sink.write(content + bytes(-len(content) % BLOCK))
        lines.append(" ".join(fields))
    sink.write(bytes(2 * BLOCK))
    return rows, "\n".join([f"v1.2 {len(lines)}", *lines]) + "\n"


def _write_records(sink: _HashingSink, members: Iterator[Sample]) -> tuple[list[tuple[int, int, int]], str]:
    """Write records. Returns rows of a table, and the index for MXNet's and DALI's readers.

    A record is not split if its image contains the format's magic number at a multiple of four bytes (probability 2^-32
    per word), because readers that use an index do not search for it.
    """
    rows, lines = [], []
    for index, sample in enumerate(members):
        length = RECORD.size - 8 + len(sample.content)
        if length >> LENGTH_BITS:
            raise UserError(
                f"image {sample.number} has {len(sample.content):,} bytes, too many for a record: use shards"
            )
        lines.append(f"{index}\t{sink.position}\n")
        sink.write(RECORD.pack(MAGIC, length, 0, sample.label, sample.number, 0))
        rows.append((sink.position, len(sample.content), sample.label))
        sink.write(sample.content + bytes(-length % 4))
    return rows, "".join(lines)
