"""Export of a data set to folders of image files, PART/CLASS/NUMBER.SUFFIX, unchanged or as JPEGs of one size."""

import errno
import hashlib
import io
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distdl.core.config import DataConfig
from distdl.core.errors import Failure, UserError, reason
from distdl.core.files import write_atomic
from distdl.core.opening import open_to_append
from distdl.core.paths import is_inside
from distdl.core.regular import open_regular, read_regular
from distdl.core.text import name as shown
from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import LARGEST_IMAGE, File, Unreadable, compact
from distdl.data.storage import decode, folders
from distdl.data.storage.destination import begin, check_class_names, find_plan, fingerprint, parts_of, report_omitted
from distdl.data.storage.folders import UNFINISHED
from distdl.data.storage.image_header import read_header
from distdl.data.storage.pack import NAMES, SUFFIX_OF, first_readable, refuse, samples
from distdl.runtime.cores import cores

SUMS = "SHA256SUMS"
"""Checksums of all files, for `sha256sum --check`. While the export runs, those of the files written so far."""
RECORD = "export.json"
"""Source and size of a finished export. Until it is finished, the file UNFINISHED contains them."""
QUALITY = 92
LONGEST = 65_500
"""Maximum side of a JPEG in pixels, as limited by libjpeg."""
GRAY = ("1", "L", "LA", "I;16", "I;16B", "I")
"""Pillow's modes of images without color."""
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
Counts = dict[str, Counter[str]]
"""By part, the number of images of each class."""


class Exported(NamedTuple):
    """The result of an export."""

    images: int
    unchanged: bool
    """Whether a previous call had finished it, so that nothing was written."""


def export(
    dataset: DataSet,
    folder: Path,
    size: int | None,
    progress: Callable[[int], None],
    unreadable: Callable[[Unreadable], None] = refuse,
) -> Exported:
    """Write the images of a data set as files, and verify that the folder reads as the same data set.

    An interrupted export is resumed: files that were written are kept, if neither they nor the source have changed. A
    finished one is only verified.

    Args:
        size: None to copy files unchanged (images in memory become PNG); otherwise images become JPEGs whose short side
            has `size` pixels, or with 0 keeps its length.
        progress: called with 1 for each finished image.
        unreadable: called, possibly more than once, for an image that cannot be read; if it does not raise, the image
            is left out.
    Raises:
        UserError: a sample cannot be read, a class name cannot be a folder's name, or the folder has other content.
        Failure: the folder cannot be written, or a file that was read again differs from what was written.
    """
    check_class_names(dataset)
    parts = {part: _compacted(split) for part, split in parts_of(dataset).items()}
    labels = [name.replace("/", "_") for name in dataset.classes]
    plan = {"size": size, "source": fingerprint(dataset)}
    previous = find_plan(folder, plan, (UNFINISHED, RECORD), "export")
    if images := _finished(folder, previous):
        report_omitted(folder, dataset, images, unreadable)
        return Exported(images, unchanged=True)
    _check_folder_names(dataset, parts, labels, folder)
    for part, split in parts.items():
        first_readable(
            part, (sample for index in range(len(split)) if (sample := _try(split, index, size, unreadable)))
        )
    lines: list[tuple[str, str]] = []
    written: Counts = {part: Counter() for part in parts}
    begin(folder, plan, UNFINISHED, previous)
    try:
        known = _lines_of(folder / SUMS)
        with open_to_append(folder / SUMS) as journal:
            for part, split in parts.items():
                stems = [f"{NAMES[part]}/{label}" for label in labels]
                for number in np.unique(split.labels).tolist():
                    (folder / stems[number]).mkdir(parents=True, exist_ok=True)

                def export_image(index: int, split: Split = split, stems: list[str] = stems) -> tuple[str, str] | None:
                    stem = f"{stems[int(split.labels[index])]}/{index:08}"
                    line = _export_image(split, index, folder, stem, size, known, unreadable)
                    progress(1)
                    return line

                with ThreadPoolExecutor(cores()) as pool:
                    for index, line in enumerate(pool.map(export_image, range(len(split)))):
                        if line is not None:
                            lines.append(line)
                            journal.write(_line(*line))
                            written[part][labels[int(split.labels[index])]] += 1
        write_atomic(folder / SUMS, lambda sink: sink.writelines(_line(*line) for line in lines))
        if (changed := _changed(folder, lines)) is not None:
            raise Failure(f"{folder / changed} differs from what was written: the disk or file server loses data")
        _compare(folder, written, complete=len(lines) == sum(map(len, parts.values())))
        (folder / UNFINISHED).replace(folder / RECORD)
    except OSError as error:
        raise Failure(f"{error.filename or folder} cannot be written: {reason(error)}") from None
    return Exported(len(lines), unchanged=False)


def _finished(folder: Path, plan: Path | None) -> int:
    """The number of images if the export is finished and every file in SHA256SUMS is as it was written, else 0."""
    lines = [_read_line(line) for line in _lines_of(folder / SUMS)] if plan == folder / RECORD else []
    return len(lines) if _changed(folder, lines) is None else 0


def _changed(folder: Path, lines: list[tuple[str, str]]) -> str | None:
    """The name of a file that is missing or differs from its checksum."""

    def is_same(line: tuple[str, str]) -> bool:
        content = _existing(folder / line[1]) if is_inside(line[1]) else None
        return content is not None and hashlib.sha256(content).hexdigest() == line[0]

    with ThreadPoolExecutor(cores()) as pool:
        return next((name for (_, name), same in zip(lines, pool.map(is_same, lines), strict=True) if not same), None)


def _compacted(split: Split) -> Split:
    return split if isinstance(split, ResidentSplit) else replace(split, files=compact(split.files))


def _check_folder_names(dataset: DataSet, parts: dict[str, Split], labels: list[str], folder: Path) -> None:
    """Check that all class names work as folder names, by exporting one empty file per class and reading the result.

    A class would be lost if its name is hidden, has a special meaning for the reader, is too long for the file system,
    or equals another name for the file system except for case or Unicode normalization. The trial uses a temporary
    folder in `folder` or next to it.

    Raises:
        UserError: names a class that is not read again.
    """
    expected = {
        part: Counter({labels[number]: 1 for number in np.unique(split.labels)}) for part, split in parts.items()
    }
    sources: dict[str, str] = {}
    for name, label in zip(dataset.classes, labels, strict=True):
        if sources.setdefault(label, name) != name:
            raise UserError(
                f"classes {shown(sources[label])} and {shown(name)} of {dataset.name} would have the same folder "
                f"{shown(label)}: rename one of them"
            )
    base = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=base) as scratch:
            for part, classes in expected.items():
                for label in classes:
                    try:
                        place = Path(scratch, NAMES[part], label)
                        place.mkdir(parents=True, exist_ok=True)
                        (place / "0.jpg").touch()
                    except (OSError, ValueError) as error:
                        if isinstance(error, OSError) and error.errno not in NAME_ERRORS:
                            raise
                        raise UserError(
                            f"class {shown(sources[label])} cannot be a folder's name ({reason(error)}): rename it"
                        ) from None
            try:
                counts = _counts(Path(scratch), folder)
            except UserError as error:
                raise UserError(f"the classes of {dataset.name} cannot be folders: {error}") from None
    except OSError as error:
        raise UserError(f"{base} cannot be written: {reason(error)}; choose another folder with --out") from None
    if wrong := _difference(counts, expected):
        name = shown(sources.get(wrong[1], wrong[1]))
        raise UserError(
            f"class {name} of {dataset.name} cannot be exported: its folder would not be read as a class; rename it"
        )


def _compare(folder: Path, written: Counts, complete: bool) -> None:
    """Read the folder as a data set and compare its classes with what was written.

    Raises:
        UserError: they differ because unreadable images were left out.
        Failure: they differ although all images were written.
    """
    try:
        wrong = _difference(_counts(folder, folder), written)
        problem = wrong and f"{wrong[0]} lacks images of class {shown(wrong[1])} that were written"
    except UserError as error:
        problem = str(error)
    if problem and complete:
        raise Failure(f"{folder} differs from what was written when it is read again: {problem}")
    if problem:
        raise UserError(f"without its unreadable images the set cannot be read: {problem}; fix them and export again")


def _counts(place: Path, folder: Path) -> Counts:
    """Count images by part and class as distdl reads them in `place`; messages name `folder` instead."""
    try:
        raw = folders.read_tree(place, DataConfig())
    except UserError as error:
        raise UserError(str(error).replace(str(place), str(folder))) from None
    splits = {"train": raw.train, "validation": raw.validation, "test": raw.test}
    return {
        part: Counter({raw.classes[number]: count for number, count in enumerate(np.bincount(split.labels)) if count})
        for part, split in splits.items()
        if split is not None
    }


def _difference(counts: Counts, expected: Counts) -> tuple[str, str] | None:
    """Return part and class of the first difference, or None."""
    for part in expected:
        for label in [*expected[part], *counts.get(part, ())]:
            if counts.get(part, Counter())[label] != expected[part][label]:
                return part, label
    return None


def _export_image(
    split: Split,
    index: int,
    folder: Path,
    stem: str,
    size: int | None,
    known: set[bytes],
    unreadable: Callable[[Unreadable], None],
) -> tuple[str, str] | None:
    """Write an image unless it exists. Returns its checksum and name, or None if it is unreadable.

    Args:
        known: lines of SHA256SUMS from an unfinished export.
    """
    if size is not None and (content := _existing(folder / f"{stem}.{SUFFIX_OF['JPEG']}")) is not None:
        line = hashlib.sha256(content).hexdigest(), f"{stem}.{SUFFIX_OF['JPEG']}"
        if _line(*line) in known:
            return line
    sample = _try(split, index, size, unreadable)
    if sample is None:
        return None
    content, suffix = sample
    file = folder / f"{stem}.{suffix}"
    if _existing(file) != content:
        write_atomic(file, lambda sink: sink.write(content), durable=False)  # every file is read again at the end
    return hashlib.sha256(content).hexdigest(), f"{stem}.{suffix}"


def _existing(file: Path) -> bytes | None:
    try:
        return read_regular(file, LARGEST_IMAGE)
    except FileNotFoundError:
        return None


def _try(
    split: Split, index: int, size: int | None, unreadable: Callable[[Unreadable], None]
) -> tuple[bytes, str] | None:
    """Return content and suffix of an exported image, None if it is unreadable."""
    try:
        (sample,) = samples(split, np.array([index]), _raise)
        if size is None:
            return sample.content, sample.suffix
        name = f"image {index}" if isinstance(split, ResidentSplit) else split.files[index]
        return as_jpeg(sample.content, size, name), SUFFIX_OF["JPEG"]
    except Unreadable as error:
        unreadable(error)
        return None


def _lines_of(sums: Path) -> set[bytes]:
    if not sums.exists():
        return set()
    with open_regular(sums) as source:
        return set(source)


def _line(digest: str, name: str) -> bytes:
    """Format a line of SHA256SUMS; backslashes and line breaks in names are escaped as coreutils' sha256sum does."""
    escaped = name.replace("\\", r"\\").replace("\n", r"\n")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n".encode(errors="surrogateescape")


def _read_line(line: bytes) -> tuple[str, str]:
    """Checksum and name of a line of SHA256SUMS."""
    digest, _, name = line.decode(errors="surrogateescape").rstrip("\n").partition("  ")
    if digest.startswith("\\"):
        name = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], name)
    return digest.removeprefix("\\"), name


def _raise(error: Unreadable) -> None:
    raise error


def as_jpeg(content: bytes, size: int, file: File | str = "the image") -> bytes:
    """Re-encode an image as an upright JPEG, in color or gray, from the pixels that the loaders decode.

    Args:
        size: length of the short side in pixels; 0 keeps it, and an image is never enlarged.
        file: name for errors.
    Raises:
        Unreadable: it cannot be decoded, or is too high or too wide for a JPEG.
    """
    from PIL import Image

    encoded = np.frombuffer(content, np.uint8)
    channels = 1 if read_header(file, encoded).mode in GRAY else 3
    pixels = decode.decode_content(file, encoded, channels).permute(1, 2, 0).numpy()
    upright = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    short = min(upright.size)
    if 0 < size < short:
        target = [max(round(side * size / short), 1) for side in upright.size]
        upright = upright.resize(target, Image.Resampling.BICUBIC)
    if max(upright.size) > LONGEST:
        raise Unreadable(
            f"{file} has {upright.width:,} x {upright.height:,} pixels, but a JPEG has at most {LONGEST:,} per side"
        )
    sink = io.BytesIO()
    upright.save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()
