"""Exporting: a set into folders of image files, PART/CLASS/NUMBER.SUFFIX, as they are or as JPEGs of one size."""

import errno
import hashlib
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from distdl.core.config import DataConfig
from distdl.core.errors import Failure, UserError, reason
from distdl.core.files import write_atomic
from distdl.core.text import name as shown
from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import File, Unreadable, compact
from distdl.data.storage import decode, folders
from distdl.data.storage.destination import begin, check_class_names, find_plan, fingerprint, parts_of
from distdl.data.storage.folders import UNFINISHED
from distdl.data.storage.image_header import read_header
from distdl.data.storage.pack import NAMES, SUFFIX_OF, first_readable, refuse, samples
from distdl.runtime.cores import cores

SUMS = "SHA256SUMS"
"""Sums of all files, as `sha256sum --check` takes them. While the export runs, those of the files so far."""
RECORD = "export.json"
"""Source and size of a finished export. Until then, the file UNFINISHED holds them."""
QUALITY = 92
LONGEST = 65_500
"""Pixels of a JPEG's longer side at most, by libjpeg."""
GRAY = ("1", "L", "LA", "I;16", "I;16B", "I")
"""Pillow's modes of images without colour."""
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
Counts = dict[str, Counter[str]]
"""By part, the number of images of each class."""


def export(
    dataset: DataSet,
    folder: Path,
    size: int | None,
    progress: Callable[[int], None],
    unreadable: Callable[[Unreadable], None] = refuse,
) -> int:
    """Write a set's images as files, and verify that the folder reads as the same set. Returns how many there are.

    An export that was cut off is resumed: files that it wrote stay, if neither they nor the source have changed.

    Args:
        size: None copies files as they are (images in memory become PNG); else JPEGs whose short side has this many
            pixels, 0 for the image's own.
        progress: called with 1 for each image that is done.
        unreadable: called for an image that cannot be read, once or more; unless it raises, the image is left out.
    Raises:
        UserError: a sample cannot be read, a class name cannot be that of a folder, or the folder holds something else.
        Failure: the folder cannot be written, or what was written is not what is read again.
    """
    check_class_names(dataset)
    parts = {part: _lean(split) for part, split in parts_of(dataset).items()}
    labels = [name.replace("/", "_") for name in dataset.classes]
    plan = {"size": size, "source": fingerprint(dataset)}
    previous = find_plan(folder, plan, (UNFINISHED, RECORD), "export")
    _rehearse(dataset, parts, labels, folder)
    for part, split in parts.items():
        first_readable(
            part, (sample for index in range(len(split)) if (sample := _try(split, index, size, unreadable)))
        )
    lines: list[tuple[str, str]] = []
    written: Counts = {part: Counter() for part in parts}
    begin(folder, plan, UNFINISHED, previous)
    try:
        known = _lines_of(folder / SUMS)
        with (folder / SUMS).open("ab") as journal:
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
        for digest, name in lines:
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise Failure(f"{folder / name} is not what was written to it: its disk or file server loses data")
        _compare(folder, written, complete=len(lines) == sum(map(len, parts.values())))
        (folder / UNFINISHED).replace(folder / RECORD)
    except OSError as error:
        raise Failure(f"{error.filename or folder} cannot be written: {reason(error)}") from None
    return len(lines)


def _lean(split: Split) -> Split:
    return split if isinstance(split, ResidentSplit) else replace(split, files=compact(split.files))


def _rehearse(dataset: DataSet, parts: dict[str, Split], labels: list[str], folder: Path) -> None:
    """Export the classes with one empty file each, beside or in `folder`, and read them: the reader decides.

    A name may be hidden, or mean something else to the reader, or be too long for the file system or, in another case
    or Unicode form, the same as another name to it.

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
        raise UserError(f"{base} cannot be written: {reason(error)}; name another folder by --out") from None
    if wrong := _difference(counts, expected):
        name = shown(sources.get(wrong[1], wrong[1]))
        raise UserError(
            f"class {name} of {dataset.name} cannot be exported: its folder is no class to readers; rename it"
        )


def _compare(folder: Path, written: Counts, complete: bool) -> None:
    """Read the folder as a set and compare its classes with what was written.

    Raises:
        UserError: without the images that were left out, it is not the same set.
        Failure: it should be the same set.
    """
    try:
        wrong = _difference(_counts(folder, folder), written)
        problem = wrong and f"{wrong[0]} has not the images of class {shown(wrong[1])} that were written"
    except UserError as error:
        problem = str(error)
    if problem and complete:
        raise Failure(f"{folder} does not read as what was written to it: {problem}")
    if problem:
        raise UserError(f"without its unreadable images the set cannot be read: {problem}; fix them, and export again")


def _counts(place: Path, folder: Path) -> Counts:
    """Images by part and class as distdl reads them in `place`, which messages call `folder`."""
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
    """Part and class of the first difference."""
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
    """Write an image if it is not there. Returns its sum and name, None if it is unreadable.

    Args:
        known: lines about files of an unfinished export.
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
        beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            beside.write_bytes(content)
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest(), f"{stem}.{suffix}"


def _existing(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _try(
    split: Split, index: int, size: int | None, unreadable: Callable[[Unreadable], None]
) -> tuple[bytes, str] | None:
    """Content and suffix of an exported image, None if it is unreadable."""
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
    with sums.open("rb") as source:
        return set(source)


def _line(digest: str, name: str) -> bytes:
    """A line of sums; names with a backslash or a line break are escaped as coreutils' sha256sum does."""
    escaped = name.replace("\\", r"\\").replace("\n", r"\n")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n".encode(errors="surrogateescape")


def _raise(error: Unreadable) -> None:
    raise error


def as_jpeg(content: bytes, size: int, file: File | str = "the image") -> bytes:
    """Re-encode an image as an upright JPEG, colour or gray, with the pixels that the loaders see.

    Args:
        size: pixels of the short side; 0 leaves it, and an image is never enlarged.
        file: named in errors.
    Raises:
        Unreadable: it cannot be decoded, or is too long or too wide for a JPEG.
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
        raise Unreadable(f"{file} has {upright.width:,} x {upright.height:,} pixels, a JPEG at most {LONGEST:,} a side")
    sink = io.BytesIO()
    upright.save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()
