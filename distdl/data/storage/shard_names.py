"""Shards and records in a folder, and the split of each."""

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from distdl.core.errors import UserError, reading
from distdl.core.paths import inside
from distdl.core.text import name as shown
from distdl.data.storage import tree
from distdl.data.storage.archives import DOCUMENTS, SHARD
from distdl.data.storage.set_file import MANIFEST, SetFile, Shard
from distdl.data.storage.split_names import splits_of
from distdl.data.storage.tree import is_image

COMPANIONS = DOCUMENTS | {".idx", ".npz", ".lst", ".md5", ".sha256"}
"""Suffixes of files that may be next to shards: indices, checksums and documents."""
NUMBER_OF_COUNT = re.compile(r"([0-9]+)[-_]of[-_]([0-9]+)", re.IGNORECASE)
"""Number of a shard and number of shards, as in train-00000-of-00003.tar."""

ShardFiles = dict[str, dict[Path, Shard | None]]
"""By split, its files, each with its row of set.json if there is one."""


def is_packed(folder: Path) -> bool:
    """Whether a folder is a data set in shards: it has set.json, or shards and no folders of images."""
    with reading(f"folder {folder}"):
        if (folder / MANIFEST).is_file():
            return True
    return not _has_images(folder) and bool(_shard_files(folder))


def listed(folder: Path, described: SetFile) -> ShardFiles:
    """Return the files that set.json lists, by split."""
    return {
        part: {inside(folder, shard.file, MANIFEST): shard for shard in shards}
        for part, shards in described.parts.items()
    }


def _shard_files(folder: Path) -> list[Path]:
    """Return the shards and records in a folder and its subfolders, sorted. Compressed shards are refused later.

    Raises:
        UserError: a folder cannot be read, or an entry named like a shard is not a file.
    """
    top = tree.walk(folder).top
    entries = (
        Path(inner.path, name)
        for inner in top.below()
        for name in (*inner.others, *(child.name for child in inner.folders))
        if SHARD.search(name)
    )
    paths = sorted(entries)
    for path in paths:
        if not path.is_file():
            problem = "is a broken link" if not path.exists() else "is named like a shard but is not a file"
            raise UserError(f"{path} {problem}: copy the file again, or remove it if it is not needed")
    return paths


def _has_images(folder: Path) -> bool:
    """Whether a subfolder of `folder` has image files, at any depth."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if place != str(folder) and any(map(is_image, names)):
            return True
    return False


def by_name(folder: Path) -> ShardFiles:
    """Return the files of each split, which is determined from the name of the file or of its folder.

    Raises:
        UserError: a file cannot be read, the names of others show that one is missing, or its split is not clear.
    """
    paths = _shard_files(folder)
    if inner := next((path.parent for path in paths if (path.parent / MANIFEST).is_file()), None):
        raise UserError(f"{inner} is itself a packed data set: use its path as the data set")
    if packed := next((path for path in paths if path.with_suffix(".npz").exists()), None):
        raise UserError(
            f"{folder} was packed by distdl (it has {packed.with_suffix('.npz').name}), but has no {MANIFEST} with "
            "its classes: copy it too, or remove the .npz files to read the shards without it"
        )
    files: ShardFiles = {}
    unnamed: list[Path] = []
    for path in paths:
        parts = splits_of(str(path.relative_to(folder)))
        if len(parts) > 1:
            raise UserError(f"{path} is named {' and '.join(parts)}: give it the name of one split")
        if parts:
            files.setdefault(parts[0], {})[path] = None
        else:
            unnamed.append(path)
    if unnamed and files:
        raise UserError(f"{unnamed[0]} is named neither train, val nor test, unlike other shards of {folder}")
    files = files or {"train": dict.fromkeys(unnamed)}
    for part in files.values():
        _check_numbers(list(part))
    return files


def _check_numbers(paths: list[Path]) -> None:
    """Compare the shards of a split with the count in their names (train-00000-of-00003.tar), if there is one.

    Raises:
        UserError: shards are missing, or the names of two differ only in the suffix.
    """
    stems: dict[str, Path] = {}
    groups: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        if (other := stems.setdefault(SHARD.sub("", str(path)), path)) != path:
            raise UserError(f"{other} and {path.name} have the same name except for the suffix: remove or rename one")
        if matches := NUMBER_OF_COUNT.search(path.name):
            groups.setdefault((path.name[: matches.start()], int(matches[2])), set()).add(int(matches[1]))
    for (prefix, count), numbers in groups.items():
        first = int(0 not in numbers and count in numbers)
        if len(numbers) != count or min(numbers) != first or max(numbers) != first + count - 1:
            absent = list(itertools.islice((each for each in range(first, first + count) if each not in numbers), 6))
            lacks = f" (number {_some(absent)} is missing)" if absent else ""
            raise UserError(
                f"{paths[0].parent} has {len(numbers):,} of the {count:,} shards {shown(prefix)}NUMBER-of-{count}"
                f"{lacks}: copy the set again, or rename the shards if none is missing"
            )


def _odd_names(folder: Path, files: ShardFiles) -> list[str]:
    """Return sentences about names that suggest missing shards, or shards that do not belong together."""
    notes = []
    for part, paths in files.items():
        numbers: dict[str, list[int]] = {}
        for path in paths:
            stem = NUMBER_OF_COUNT.sub(r"\1", SHARD.sub("", str(path.relative_to(folder))))
            prefix = stem.rstrip("0123456789")
            numbers.setdefault(prefix, []).append(int(stem[len(prefix) :] or 0))
        for prefix, present in numbers.items():
            absent = max(present) - min(present) + 1 - len(present)
            if 0 < absent <= len(present):  # otherwise the numbers are not a sequence
                missing = sorted(set(range(min(present), max(present))) - set(present))
                notes.append(
                    f"{folder} has shards {shown(prefix)}* below and above number {_some(missing)}, but not these: "
                    "are they missing?"
                )
        if len(numbers) > 1:
            names = _some([f"{prefix}*" for prefix in numbers])
            notes.append(f"{part} is read from shards with {len(numbers):,} different names: {names}")
    return notes


def _left_out(folder: Path, described: SetFile | None) -> list[str]:
    """Return sentences about files next to the shards that are not read."""
    if described:
        known = {shard.file for shard in described.shards()}
        names = sorted(path.name for path in folder.iterdir() if SHARD.search(path.name) and path.name not in known)
        return [f"shards that {MANIFEST} does not list are left out of {folder}: {_some(names)}"] if names else []
    matches = tree.walk(folder)
    paths = [Path(inner.path, name) for inner in matches.top.below() for name in inner.images + inner.others]
    names = [
        str(path.relative_to(folder))
        for path in paths
        if not (SHARD.search(path.name) or path.suffix.lower() in COMPANIONS or path.name.isupper())
    ]
    return matches.notes() + ([f"files that are not shards are left out of {folder}: {_some(names)}"] if names else [])


def _same_files(files: ShardFiles) -> list[str]:
    """Return a sentence for each shard that is the same file as an earlier one."""
    notes, earlier = [], {}
    for part, paths in files.items():
        for path in paths:
            status = path.stat()
            known = earlier.setdefault((status.st_dev, status.st_ino), (part, path))
            if known != (part, path):
                notes.append(f"{path} ({part}) is the same file as {known[1]} ({known[0]}): its samples count twice")
    return notes


def notes(folder: Path, files: ShardFiles, described: SetFile | None) -> list[str]:
    """Return sentences about files that are left out and about suspicious names of a data set's files."""
    by_names = [] if described else _odd_names(folder, files)
    return [*_left_out(folder, described), *_same_files(files), *by_names]


def _some(values: Sequence[object]) -> str:
    """Format the first values of a list for a message."""
    return ", ".join(map(shown, values[:5])) + ", ..." * (len(values) > 5)
