"""Samples of a tar shard in WebDataset's format: an image KEY.jpg (or another suffix) and its label KEY.cls."""

import contextlib
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from distdl.core.errors import UserError, reading
from distdl.core.regular import open_regular
from distdl.core.text import printable
from distdl.data.storage.folders import SUFFIXES
from distdl.data.storage.set_file import is_class_name
from distdl.data.storage.tables import SampleTable
from distdl.data.storage.tar_walk import WITHOUT_CONTENT, DamagedTar, FileSource, Member, open_tar, walk

LABEL_BYTES = 256
"""Maximum size of a label, which is a class number or a class name."""


def scan_tar(path: Path) -> SampleTable:
    """Read all headers of a shard and pair its images with their labels.

    Labels are class numbers or class names, the same kind in all samples. Members with other suffixes are left out.

    Raises:
        UserError: the shard is damaged, or has an image without label, a label without image, or two with the same key.
    """
    images: dict[str, Member] = {}
    labels: dict[str, str] = {}
    others: dict[str, str] = {}
    hidden, keys, last_sample = 0, 0, None
    with open_tar(path) as file:
        source = FileSource(file)
        for member in _files(path, source):
            folder, _, name = member.name.rpartition("/")
            if name.startswith(".") or "__MACOSX" in folder:
                hidden += 1
                continue
            # In an index, a sample's key ends at the first dot: a.left.jpg and a.right.jpg belong to one sample.
            sample = folder, name.partition(".")[0]
            keys, last_sample = keys + (sample != last_sample), sample
            stem, _, suffix = name.rpartition(".")
            key = f"{folder}/{stem}"
            if suffix.lower() == "cls":
                if key in labels:
                    raise UserError(f"{path} has two labels with the same key, {member.name!r}: pack it again")
                labels[key] = _label(path, member, source.read(member.offset, min(member.size, LABEL_BYTES + 1)))
            elif f".{suffix.lower()}" in SUFFIXES:
                if key in images:
                    raise UserError(
                        f"{path} has two images with the same key, {images[key].name!r} and {member.name!r}: "
                        "give each image a different key"
                    )
                images[key] = member
            else:
                others[key] = name
    _check_pairs(path, images, labels, others)
    _check_index(path, keys)
    notes = (f"{path.name}: {hidden} hidden members (such as ._NAME of macOS) are left out",) if hidden else ()
    numbers, names = _numbers(path, labels)
    rows = [(member.offset, member.size, numbers[labels[key]]) for key, member in images.items()]
    return SampleTable.of(rows, names=names, notes=notes)


def _files(path: Path, source: FileSource) -> Iterator[Member]:
    """Yield the regular files of a tar shard. Directories are left out.

    Raises:
        UserError: the shard is damaged, or has a link or a special file.
    """
    try:
        for member in walk(source):
            if member.is_file:
                yield member
            elif member.type != tarfile.DIRTYPE:
                raise DamagedTar(
                    f"its member {member.name!r} is {WITHOUT_CONTENT[member.type]}, but samples are read in place: "
                    "pack it again with tar --dereference --hard-dereference"
                )
    except DamagedTar as error:
        raise UserError(f"{path} cannot be read as a tar shard: {error}") from None


def _label(path: Path, member: Member, content: bytes) -> str:
    try:
        label = content.decode().strip()
    except UnicodeDecodeError:
        label = ""
    if len(content) > LABEL_BYTES or not is_class_name(label):
        raise UserError(f"{path}: its label {member.name!r} is neither a class number nor a class name: {content[:20]}")
    return label


def _check_pairs(path: Path, images: dict[str, Member], labels: dict[str, str], others: dict[str, str]) -> None:
    unlabeled = next((key for key in images if key not in labels), None)
    if unlabeled is not None:
        key = _printable(unlabeled)
        also = f"; there is {_printable(others[unlabeled])}" if unlabeled in others else ""
        advice = "" if labels else "; if the archive has CLASS folders, use its path as the data set"
        raise UserError(f"{path}: its image {key} has no label (a member {key}.cls){also}{advice}")
    if not images:
        raise UserError(f"{path}: it has no images")
    unpaired = next((key for key in labels if key not in images), None)
    if unpaired is not None:
        also = f"; there is {_printable(others[unpaired])}" if unpaired in others else ""
        raise UserError(f"{path}: its label {_printable(unpaired)}.cls has no image of a known format{also}")


def _check_index(path: Path, samples: int) -> None:
    """Compare the number of samples with that of DALI's index (wds2idx), if the shard has one."""
    index = path.with_suffix(".idx")
    if not index.is_file():
        return
    with reading(index, "an index of samples"), open_regular(index) as file:
        version, _, count = file.readline(100).decode("latin-1").strip().partition(" ")
    if version.startswith("v1.") and count != str(samples):
        raise UserError(f"{index} lists {_printable(count)} samples, {path.name} has {samples:,}: copy both again")


def _printable(name: str) -> str:
    """Return the name of a member for a message."""
    return printable(name.lstrip("/"))


def _numbers(path: Path, labels: dict[str, str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the class number of each label, and the class names; without names if the labels are numbers."""
    texts = sorted(set(labels.values()))
    numbers = {text: number for text in texts if (number := _integer(text)) is not None}
    invalid = next((text for text in texts if text not in numbers and (numbers or _is_other_value(text))), None)
    if invalid is not None:
        key = next(key for key, label in labels.items() if label == invalid)
        why = (
            ", while others are class numbers: use one kind"
            if numbers
            else ": class numbers are written 0, 1 and so on, names have letters"
        )
        raise UserError(f"{path}: label {_printable(key)}.cls is {invalid[:40]!r}{why}")
    if not numbers:
        return {text: number for number, text in enumerate(texts)}, tuple(texts)
    if (largest := max(numbers.values())) >= 2**31:
        raise UserError(f"{path}: label {largest} is not a class number")
    if min(numbers.values()) < 0:
        raise UserError(f"{path}: label {min(numbers.values())} is negative")
    return numbers, ()


def _integer(text: str) -> int | None:
    """Parse an integer (`7`, `-1`, `7.0`); None for other text."""
    digits = text.removesuffix(".0").removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return int(text.removesuffix(".0"))


def _is_other_value(text: str) -> bool:
    """Whether text is neither an integer nor a name, but another number, several, or JSON: 0.5, 1e0, 0,1, {"label": 1}.

    Text with a letter is a name, unless Python or JSON parses it as another value.
    """
    has_digits = any(map(str.isnumeric, text))
    if has_digits and not any(map(str.isalpha, text)):
        return True
    parsers = (float, partial(int, base=0)) if has_digits else ()
    for parse in (*parsers, json.loads) if text.startswith(("{", "[", '"')) else parsers:
        with contextlib.suppress(ValueError, RecursionError):
            parse(text)
            return True
    return False
