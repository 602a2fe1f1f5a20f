"""Sets in a few large files: tar shards as WebDataset and DALI read them, or MXNet records as DALI reads them.

    set.json                     what the set is, its classes, and each file's samples, bytes and SHA-256
    train-00000.tar or .rec      the samples
    train-00000.idx              where they are, for DALI's own readers and other people's
    train.idx                    of records, for DALI: all files' as if they were one
    train-00000.npz              the same, and the labels: read at once instead of sample by sample

A folder of tar shards that others made has only the first: members KEY.jpg (or another suffix) and KEY.cls. It is
looked through once, and what was found is kept in the cache.
"""

import hashlib
import json
import struct
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distdl.config import DataConfig
from distdl.data import divide
from distdl.data.base import Raw, Split
from distdl.data.encoded import Parts
from distdl.data.folders import PARTS, SUFFIXES, TEST_SHARE
from distdl.data.places import cache_folder, locked
from distdl.errors import UserError
from distdl.rundir import write_atomic

MANIFEST = "set.json"
KINDS = {"shards": ".tar", "records": ".rec"}
RECORD = struct.Struct("<IIIfQQ")
"""dmlc's magic and length, then MXNet's flag, label, id and second id, before the image's bytes."""
MAGIC = 0xCED7230A


class Table(NamedTuple):
    """The samples of one file."""

    offset: np.ndarray
    """[n] int64, bytes."""
    size: np.ndarray
    """[n] int64, bytes."""
    label: np.ndarray
    """[n] int64."""


def is_packed(folder: Path) -> bool:
    """Whether a folder holds such a set."""
    return (folder / MANIFEST).is_file() or any(folder.glob("*.tar")) or any(folder.glob("*/*.tar"))


def manifest(folder: Path) -> dict[str, Any]:
    """set.json, or nothing where others made the shards.

    Raises:
        UserError: it is not one.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if content["parts"] and content["classes"] else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} does not describe a packed set ({error!r}): pack it again") from None


def read(folder: Path, config: DataConfig) -> Raw:
    """The samples of a folder of shards or records, divided as its files are named: train-*, val-*, test-*.

    Where nothing is named test, val is the test, and where there is neither, a fifth of each class, by `split_seed`.

    Raises:
        UserError: a file is missing, damaged, or has samples without labels.
    """
    known = manifest(folder)
    if known:
        files = {part: [folder / row["file"] for row in rows] for part, rows in known["parts"].items()}
        _check(folder, known)
    else:
        files = _by_part(folder)
    splits = {part: _split(paths) for part, paths in files.items() if paths}
    notes: list[str] = []
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("what is named val serves as the test: nothing is named test")
    if "train" not in splits:
        raise UserError(f"{folder} has no shards to train on: they are to be named train-00000.tar and so on")
    if "test" not in splits:
        kept, taken = divide.stratified(splits["train"].labels, TEST_SHARE, config.split_seed)
        splits["train"], splits["test"] = splits["train"][kept], splits["train"][taken]
        notes.append(f"{TEST_SHARE:.0%} of each class are the test, by data.split_seed: {folder} names none")
    most = max(int(split.labels.max()) for split in splits.values()) + 1
    classes = tuple(known.get("classes") or map(str, range(most)))
    return Raw(**splits, classes=classes, notes=tuple(notes))


def _check(folder: Path, known: dict[str, Any]) -> None:
    for row in (row for rows in known["parts"].values() for row in rows):
        file = folder / row["file"]
        if not file.is_file() or file.stat().st_size != row["bytes"]:
            what = f"has {file.stat().st_size:,} bytes of {row['bytes']:,}" if file.is_file() else "is missing"
            raise UserError(f"{file} {what}: copy it again, or pack the set again")


def _by_part(folder: Path) -> dict[str, list[Path]]:
    shards = sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")])
    found: dict[str, list[Path]] = {part: [] for part in PARTS}
    for shard in shards:
        where = f"{shard.parent.name if shard.parent != folder else ''}/{shard.name}".lower()
        part = next((part for part, names in PARTS.items() if any(name in where for name in names)), None)
        if part is None and len(shards) > 1 and any(found.values()):
            raise UserError(f"{shard} is named neither train, val nor test, as other shards of {folder} are")
        found[part or "train"].append(shard)
    return found


def _split(paths: list[Path]) -> Split:
    tables = [table(path) for path in paths]
    offset, size, label = (np.concatenate(column) for column in zip(*tables, strict=True))
    number = np.repeat(np.arange(len(paths)), [len(each.label) for each in tables])
    return Split(files=Parts(paths, number, offset, size), labels=label)


def table(path: Path) -> Table:
    """Where a file's samples are, from the table beside it or in the cache; else from looking through it.

    Raises:
        UserError: it cannot be read, or has samples without labels.
    """
    beside = path.with_suffix(".npz")
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    key = hashlib.sha256(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:24]
    kept = cache_folder() / "shards" / f"{key}.npz"
    for place in (beside, kept):
        if (found := _kept(place)) and (found.offset + found.size <= status.st_size).all():
            return found
    with locked(kept):
        if found := _kept(kept):
            return found
        found = scan_records(path) if path.suffix == KINDS["records"] else scan_tar(path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_table(kept, found)
    return found


def write_table(file: Path, rows: Table) -> None:
    """Write a table, whole or not at all."""
    write_atomic(file, lambda sink: np.savez(sink, **rows._asdict()))


def _kept(file: Path) -> Table | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Table(*(arrays[name].astype(np.int64, casting="safe") for name in Table._fields))
    except (OSError, ValueError, KeyError, EOFError):
        return None  # not there, or cut short: it is made again


def scan_tar(path: Path) -> Table:
    """The samples of a tar shard: an image and a .cls of the same name, side by side.

    Raises:
        UserError: it is damaged, or an image has no label.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                stem, dot, suffix = member.name.rpartition(".")
                if not member.isfile() or not dot:
                    continue
                if suffix.lower() == "cls":
                    labels[stem] = int(tar.extractfile(member).read())
                elif f".{suffix.lower()}" in SUFFIXES:
                    images[stem] = member.offset_data, member.size
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a tar shard: {error}") from None
    bare = next((stem for stem in images if stem not in labels), None)
    if bare or not images:
        what = f"its image {bare} has no label (a member {bare}.cls)" if bare else "it has no images"
        raise UserError(f"{path}: {what}")
    rows = np.array([(*place, labels[stem]) for stem, place in images.items()], np.int64)
    return Table(*rows.T.copy())


def scan_records(path: Path) -> Table:
    """The samples of a file of records, from its .idx of `number TAB offset` lines.

    Raises:
        UserError: there is no such index, or it does not lead to records.
    """
    index = path.with_suffix(".idx")
    try:
        starts = np.loadtxt(index, dtype=np.int64, ndmin=2)[:, 1]
        rows = []
        with path.open("rb") as source:
            for start in np.sort(starts).tolist():
                source.seek(start)
                magic, length, flag, label, *_ = RECORD.unpack(source.read(RECORD.size))
                if magic != MAGIC or length >> 29 or flag:
                    raise ValueError(f"at byte {start} no whole record of an image with one label")
                rows.append((start + RECORD.size, (length & (2**29 - 1)) - RECORD.size + 8, int(label)))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise UserError(f"{path} cannot be read by its index {index}: {error}") from None
    return Table(*np.array(rows, np.int64).T.copy())
