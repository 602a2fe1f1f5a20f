"""Output folders of pack and export: each belongs to one version of one data set, and is never inside of it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core.errors import UserError, reading, reason
from distdl.core.files import TEMPORARY, as_json, write_json
from distdl.core.regular import read_regular
from distdl.core.text import name as shown
from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import FilePaths, ShardParts, Unreadable, paths_of
from distdl.runtime.cores import cores

CHUNK = 1000
"""Number of files whose status one thread reads at a time."""
OPTIONS = {"kind": "--format", "per_shard": "--shard-mib", "size": "--format or --size"}
"""Options of the commands by key of a plan."""


def parts_of(dataset: DataSet) -> dict[str, Split]:
    """Return the splits of a data set that have samples, by name."""
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {part: split for part, split in parts.items() if split is not None and len(split)}


def check_class_names(dataset: DataSet) -> None:
    """Refuse two classes with the same name, which no layout can distinguish.

    Raises:
        UserError: two classes have the same name.
    """
    previous_names: set[str] = set()
    for name in dataset.classes:
        if name in previous_names:
            raise UserError(f"{dataset.name} has two classes named {shown(name)}: give each class a different name")
        previous_names.add(name)


def fingerprint(dataset: DataSet) -> str:
    """Compute SHA-256 of classes and labels, and of the images in memory or the name, size and times of each file.

    The times include that of the last status change, because programs cannot set it back, unlike the modification time.
    """
    digest = hashlib.sha256(json.dumps(dataset.classes).encode())
    for part, split in parts_of(dataset).items():
        digest.update(f"{part} {split.labels.shape}".encode())
        digest.update(np.ascontiguousarray(split.labels).data)
        if isinstance(split, ResidentSplit):
            digest.update(str(split.images.shape).encode())
            for image in split.images:  # one at a time: the images of "synthetic" are views of a single pixel
                digest.update(np.ascontiguousarray(image).data)
            continue
        if isinstance(split.files, ShardParts):
            for column in (split.files.number, split.files.offset, split.files.size):
                digest.update(np.ascontiguousarray(column).data)
        for versions in _versions(paths_of(split.files)):
            digest.update(versions)
    return digest.hexdigest()


def _versions(files: Sequence[Path] | FilePaths) -> Iterator[bytes]:
    def versions(first: int) -> bytes:
        chunk = (files[index] for index in range(first, min(first + CHUNK, len(files))))
        return "".join(map(_version, chunk)).encode(errors="surrogateescape")

    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(versions, range(0, len(files), CHUNK))


def _version(file: Path) -> str:
    try:
        status = file.stat()
    except OSError as error:
        return f"{file.name} {error.errno}\n"
    return f"{file.name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"


def find_plan(folder: Path, plan: dict[str, Any], names: Iterable[str], what: str) -> Path | None:
    """Search an output folder for the plan of an interrupted or finished command, without changing the folder.

    Args:
        names: names of files that may contain the plan.
        what: kind of the output, for messages.
    Returns:
        the file with the same plan; None if the folder is empty or does not exist.
    Raises:
        UserError: it is not a folder, or has other content.
    """
    try:
        if not folder.is_dir():
            if folder.is_symlink() and not folder.exists():
                raise UserError(f"{folder} is a broken link: remove it, or choose another folder with --out")
            if folder.exists():
                raise UserError(f"{folder} is not a folder: choose another one with --out")
            return None
        plan_file = next((folder / name for name in names if (folder / name).is_file()), None)
        if plan_file is None:
            if other := next(folder.iterdir(), None):
                raise UserError(f"{folder} is not empty, it has {shown(other.name)}: choose another folder with --out")
            return None
    except OSError as error:
        raise UserError(f"{folder} cannot be used for --out: {reason(error)}") from None
    with reading(plan_file):
        previous = read_regular(plan_file)
    if previous != as_json(plan):
        raise UserError(
            f"{folder} has the {what} {_difference(previous, plan)}: remove the folder, or choose another one with "
            "--out"
        )
    return plan_file


def _difference(previous: bytes, plan: dict[str, Any]) -> str:
    """Describe how the plan in a folder differs from that of a command."""
    try:
        stored = dict(json.loads(previous))
    except Exception:  # another program's file
        stored = {}
    changed = [key for key in plan if key not in stored or stored[key] != plan[key]]
    if changed and all(key in OPTIONS for key in changed):
        return f"of this data set with another {' and '.join(OPTIONS[key] for key in changed)}"
    return "of another data set, or of this one before its files changed"


def report_omitted(folder: Path, dataset: DataSet, written: int, unreadable: Callable[[Unreadable], None]) -> None:
    """Call `unreadable` if a finished output has fewer samples than the data set."""
    if omitted := sum(map(len, parts_of(dataset).values())) - written:
        unreadable(Unreadable(f"{folder} is complete except for images that could not be read ({omitted:,})"))


def begin(folder: Path, plan: dict[str, Any], name: str, previous: Path | None) -> None:
    """Create the output folder with its plan in file `name`, or remove partial files of a killed process from it.

    Args:
        previous: the result of `find_plan`.
    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if previous is None:
            write_json(folder / name, plan)
            return
        previous.replace(folder / name)
        for file in folder.glob("**/.*.tmp"):
            if TEMPORARY.fullmatch(file.name):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {reason(error)}") from None


def refuse_inside(folder: Path, source: Path | None, dataset: DataSet) -> None:
    """Refuse an output folder that is a folder of the data set or inside of one, also through links.

    Args:
        source: folder of the data set; None if it is not read from a folder.
    Raises:
        UserError: names both folders.
    """
    target = Path(os.path.realpath(folder))
    ancestors = {identity for place in (target, *target.parents) if (identity := _identity(place))}
    for place in _folders(source, dataset):
        if _identity(place) in ancestors:
            raise UserError(f"--out {folder} is inside of the data set, in {place}: choose a folder outside of it")


def linked_from_outside(source: Path | None, dataset: DataSet) -> str:
    """Sentence about the files of a data set that are outside of its folder and are read through links; or empty.

    Args:
        source: folder of the data set; None if it is not read from a folder.
    """
    if source is None:
        return ""
    top = os.path.realpath(source)
    folders: dict[str, str] = {}
    first, total = "", 0
    for split in parts_of(dataset).values():
        files = () if isinstance(split, ResidentSplit) else paths_of(split.files)
        for file in map(os.fspath, files):
            folder, name = os.path.split(file)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            path = f"{folders[folder]}/{name}"
            path = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114 - a million files
            if os.path.commonpath([path, top]) != top:
                first, total = first or f"{os.path.relpath(file, source)} -> {path}", total + 1
    if not total:
        return ""
    if total == 1:
        return f"1 file of the set is outside of {source}, behind a link ({shown(first)}): it is copied like the others"
    return (
        f"{total:,} files of the set are outside of {source}, behind links ({shown(first)}, ...): they are copied like "
        "the others"
    )


def _folders(source: Path | None, dataset: DataSet) -> Iterator[Path]:
    """Yield the folders of a data set: its top folder, those that contain its files, and those in between."""
    if source is None:
        return
    yield source
    visited = {source}
    for split in parts_of(dataset).values():
        files = () if isinstance(split, ResidentSplit) else paths_of(split.files)
        for place in map(Path, {os.path.dirname(file) for file in files}):  # noqa: PTH120
            while place not in visited:
                visited.add(place)
                yield place
                if source not in place.parents:
                    break
                place = place.parent


def _identity(place: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder, None if it does not exist."""
    try:
        status = place.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
