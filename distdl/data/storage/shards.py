"""Data sets in a few large files: tar shards as WebDataset and DALI read them, or MXNet records as DALI reads them.

    set.json                     describes the data set: its classes, and each file's samples, bytes and SHA-256
    train-00000.tar or .rec      the samples
    train-00000.idx              index of the samples, for DALI's readers and other programs
    train.idx                    index of all record files as if they were one, for DALI's reader
    train-00000.npz              table of samples and labels, with the SHA-256 of its shard

The SHA-256 of each file is verified before the file is used for the first time. The result is cached until the file
changes.

Shards of other programs have no set.json: they have members KEY.jpg (or another suffix) and KEY.cls, or records with
one label. They are scanned once, and the table of their samples is cached.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.core.regular import open_regular
from distdl.data.dataset import EncodedSplit, Raw
from distdl.data.files import ShardParts
from distdl.data.storage import shard_names
from distdl.data.storage.download import locked
from distdl.data.storage.folders import TEST_SHARE
from distdl.data.storage.records import scan_records
from distdl.data.storage.set_file import MANIFEST, SUFFIX, Shard, read_set_file
from distdl.data.storage.shard_names import is_packed as is_packed
from distdl.data.storage.splits import stratified
from distdl.data.storage.tables import SampleTable, cached, read_table, write_table
from distdl.data.storage.tar_shard import scan_tar
from distdl.runtime.cores import cores

UNSEEN = 1000
"""Below this number of classes, some may have no sample: a few shards of ImageNet are a valid data set."""


def read(folder: Path, config: DataConfig) -> Raw:
    """Read a folder of shards or records, split by the names of its files: train-*, val-*, test-*.

    Without a test split, val is used as the test split; without either, it is a fifth of each class, selected by
    `split_seed`.

    Raises:
        UserError: a file is missing, damaged, or has samples without labels.
    """
    described = read_set_file(folder)
    files = shard_names.listed(folder, described) if described else shard_names.by_name(folder)
    if "train" not in files:
        raise UserError(f"{folder} has no shards to train on: they must be named train-00000.tar and so on")
    shards = {path: shard for part in files.values() for path, shard in part.items()}
    for path, shard in shards.items():
        if shard:
            _check_size(path, shard)  # for all files, before the first checksum is computed
    with ThreadPoolExecutor(cores()) as pool:  # hashing releases the interpreter lock
        tables = dict(zip(shards, pool.map(table, shards, shards.values()), strict=True))
    notes = [note for rows in tables.values() for note in rows.notes]
    notes += shard_names.notes(folder, files, described)
    classes = described.classes if described else _classes(folder, files, tables, notes)
    tables = {path: _numbered(path, rows, classes) for path, rows in tables.items()}
    splits = {part: _split({path: tables[path] for path in paths}) for part, paths in files.items()}
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("val is used as the test split: there is no test split")
    if "test" not in splits:
        train, test = stratified(splits["train"].labels, TEST_SHARE, config.split_seed)
        splits["train"], splits["test"] = splits["train"][train], splits["train"][test]
        notes.append(
            f"{TEST_SHARE:.0%} of each class are the test split, selected by data.split_seed: {folder} has no test "
            "split"
        )
    return Raw(**splits, classes=classes, notes=tuple(notes))


def verify(folder: Path) -> Iterator[str]:
    """Check every file of a packed data set completely, without the cache. Yields one sentence per fault."""
    try:
        described = read_set_file(folder)
        files = shard_names.listed(folder, described) if described else shard_names.by_name(folder)
    except UserError as error:
        yield str(error)
        return
    tables: dict[Path, SampleTable] = {}
    for path, shard in ((path, shard) for part in files.values() for path, shard in part.items()):
        try:
            if shard:
                _check_size(path, shard)
                _check_sum(path, shard)
            tables[path] = _scan(path, shard)
        except UserError as error:
            yield str(error)
            continue
        table_file = path.with_suffix(".npz")
        if shard and table_file.exists():
            rows = read_table(table_file, shard.bytes, shard.sha256)
            if rows is None or not rows.same_samples(tables[path]):
                yield f"{table_file} does not match {path.name} and is not used: remove it or pack the set again"
    try:
        classes = described.classes if described else _classes(folder, files, tables, []) if tables else ()
        for path, rows in tables.items():
            _numbered(path, rows, classes)
    except UserError as error:
        yield str(error)


def table(path: Path, shard: Shard | None = None) -> SampleTable:
    """Return the samples of a file: from the cache, from the table next to it, or by scanning the file.

    Args:
        shard: the file's row of set.json; the file is verified with it.
    Raises:
        UserError: the file cannot be read, is damaged, or has samples without labels.
    """
    sha256 = shard.sha256 if shard else ""
    try:
        size, cache_file = path.stat().st_size, cached(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if shard:
        _check_size(path, shard)
    if (rows := read_table(cache_file, size, sha256)) and _complete(rows, shard):
        return rows
    with locked(cache_file):
        if (rows := read_table(cache_file, size, sha256)) and _complete(rows, shard):
            return rows
        rows = None
        if shard:
            _check_sum(path, shard)
            rows = read_table(path.with_suffix(".npz"), size, sha256)
        if rows is None or not _complete(rows, shard):
            rows = _scan(path, shard)
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        write_table(cache_file, rows)
    return rows


def _scan(path: Path, shard: Shard | None) -> SampleTable:
    rows = scan_records(path) if path.suffix.lower() == SUFFIX["records"] else scan_tar(path)
    if shard and len(rows) != shard.samples:
        raise UserError(
            f"{path} has {len(rows):,} samples, but {shard.samples:,} according to {MANIFEST}: pack the set again"
        )
    return replace(rows, sha256=shard.sha256) if shard else rows


def _complete(rows: SampleTable, shard: Shard | None) -> bool:
    return shard is None or len(rows) == shard.samples


def _check_size(path: Path, shard: Shard) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{path} {problem}, but {MANIFEST} lists it: copy it again, or pack the set again") from None
    if size != shard.bytes:
        raise UserError(f"{path} has {size:,} bytes of {shard.bytes:,}: copy it again, or pack the set again")


def _check_sum(path: Path, shard: Shard) -> None:
    if file_sum(path) != shard.sha256:
        raise UserError(f"{path} differs from the SHA-256 in {MANIFEST}: copy it again, or pack the set again")


def file_sum(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_regular(path) as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _classes(
    folder: Path, files: shard_names.ShardFiles, tables: dict[Path, SampleTable], notes: list[str]
) -> tuple[str, ...]:
    """Return the class names of shards without set.json: the labels of the training samples if these are names,
    otherwise the numbers from 0 to the largest label.

    Raises:
        UserError: some shards have names and others numbers, or a number is too large for the number of samples.
    """
    numbered = [path for path, rows in tables.items() if not rows.names]
    if numbered and len(numbered) < len(tables):
        raise UserError(
            f"{numbered[0]} has class numbers as labels, but other shards of {folder} have names: use one kind"
        )
    if not numbered:
        return tuple(sorted({name for path in files.get("train", {}) if path in tables for name in tables[path].names}))
    samples = sum(map(len, tables.values()))
    highest, path = max((int(rows.label.max()), path) for path, rows in tables.items())
    if highest >= max(samples, UNSEEN):
        raise UserError(
            f"{path} has label {highest:,}, but the set has {samples:,} samples in all: number its classes from 0, or "
            "write class names into the .cls members"
        )
    used = len(np.unique(np.concatenate([rows.label for rows in tables.values()])))
    if used <= highest:
        notes.append(f"{highest + 1 - used:,} of the class numbers 0 to {highest:,} have no sample")
    return tuple(map(str, range(highest + 1)))


def _numbered(path: Path, rows: SampleTable, classes: tuple[str, ...]) -> SampleTable:
    """Return the table with the data set's class numbers as labels.

    Raises:
        UserError: a label is not one of the data set's classes.
    """
    if rows.names:
        numbers = {name: number for number, name in enumerate(classes)}
        unknown = next((name for name in rows.names if name not in numbers), None)
        if unknown is not None:
            raise UserError(f"{path} has label {unknown!r}, which is not a class of the training samples")
        return replace(rows, label=np.array([numbers[name] for name in rows.names])[rows.label])
    if (highest := int(rows.label.max())) >= len(classes):
        raise UserError(f"{path} has label {highest:,}, but the set has {len(classes):,} classes")
    return rows


def _split(tables: dict[Path, SampleTable]) -> EncodedSplit:
    columns = ([getattr(rows, name) for rows in tables.values()] for name in ("offset", "size", "label"))
    offset, size, label = map(np.concatenate, columns)
    number = np.repeat(np.arange(len(tables)), [len(rows) for rows in tables.values()])
    return EncodedSplit(files=ShardParts(list(tables), number, offset, size), labels=label)
