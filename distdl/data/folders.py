"""Data sets of image files in folders: any layout that distdl.data.layout reads, and Omniglot's archives."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from distdl.config import DataConfig
from distdl.data import divide, layout, tree
from distdl.data.base import Raw, Split
from distdl.data.lists import Sample
from distdl.data.places import build, cache_folder, extract
from distdl.data.tree import SUFFIXES as SUFFIXES
from distdl.errors import UserError
from distdl.text import name as shown

PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
"""Names of the splits of packed files."""
TEST_SHARE = 0.2
"""Share of each class that becomes the test split of a folder without one."""


UNFINISHED = ".unfinished-export"
"""File in a folder to which images are still being exported."""


def read(folder: Path, config: DataConfig) -> Raw:
    """Images by class, divided as the folder says: by train.txt and test.txt, or by train/ and val/ or test/.

    A folder of class folders alone gives a fifth of each class to the test, by `split_seed`. If nothing is named test,
    val is the test.

    Raises:
        UserError: there are no images, they can be read in two ways, or a list names files that do not exist.
    """
    if (folder / UNFINISHED).exists():
        raise UserError(f"{folder} is an unfinished export: run distdl data export again, or remove {UNFINISHED} in it")
    return read_tree(folder, config)


def read_tree(folder: Path, config: DataConfig) -> Raw:
    """Read a folder as `read` does, also one to which images are still being exported."""
    found = tree.walk(folder)
    notes: list[str] = []
    parts = layout.read(found.top, notes)
    notes += found.notes()
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        notes.append("what is named val serves as the test: nothing is named test")
    return _raw(folder, parts, notes, config.split_seed, linked=found.linked)


def has_images(folder: Path) -> bool:
    """Whether a subfolder has images, so that a folder with archives in it is a set of image files.

    Raises:
        UserError: a folder cannot be read.
    """
    return any(child.total for child in tree.walk(folder).top.folders)


def read_omniglot(folder: Path, config: DataConfig) -> Raw:
    """Omniglot's characters, from its archives or their folders; drawers 1 to 15 to train on, 16 to 20 the test.

    The background set is taken if it is there, else the two small ones, which share alphabets.
    """
    samples: dict[str, Sample] = {}
    for names in (("images_background",), ("images_background_small1", "images_background_small2")):
        for part in filter(None, (_opened(folder, name) for name in names)):
            for image in sorted(part.glob("*/*/*.png")):
                character = image.parent.relative_to(part).as_posix()
                samples.setdefault(f"{character}/{image.name}", (image, character))
        if samples:
            break
    else:
        raise UserError(f"{folder} has neither images_background.zip nor images_background_small1.zip")
    parts: dict[str, list[Sample]] = {"train": [], "test": []}
    for path, character in samples.values():
        drawer = int(path.stem.rsplit("_", 1)[-1])
        parts["train" if drawer <= 15 else "test"].append((path, character))
    return _raw(folder, parts, [], config.split_seed)


def _opened(folder: Path, name: str) -> Path | None:
    """The folder `name`, unpacked from its archive if need be: beside it, or in the cache where that is read only."""
    if (folder / name).is_dir():
        return folder / name
    archive = folder / f"{name}.zip"
    if not archive.is_file():
        return None
    place = folder if os.access(folder, os.W_OK) else cache_folder() / "data" / folder.name
    return build(place / name, lambda scratch: extract(archive, scratch))


def _raw(folder: Path, parts: dict[str, list[Sample]], notes: list[str], seed: int, linked: bool = False) -> Raw:
    if not parts["train"]:
        raise UserError(
            f"{folder} has no images to train on: it needs CLASS folders, or train/ and val/ that have them, "
            "or train.txt and test.txt"
        )
    classes = tuple(sorted({label for _, label in parts["train"]}))
    numbers = {label: number for number, label in enumerate(classes)}
    for part, samples in parts.items():
        unknown = next((label for _, label in samples if label not in numbers), None)
        if unknown is not None:
            raise UserError(f"{folder}: class {shown(unknown)} is in {part} but not in train")
    splits = {part: _split(samples, numbers) for part, samples in parts.items()}
    for part, samples in parts.items():
        _note_absent(part, classes, {label for _, label in samples}, notes)
    if "test" not in splits:
        splits["train"], splits["test"] = _divided(folder, splits["train"], seed, notes)
    _note_overlap(parts, notes, linked)
    return Raw(**splits, classes=classes, notes=tuple(notes))


def _split(samples: list[Sample], numbers: dict[str, int]) -> Split:
    labels = np.array([numbers[label] for _, label in samples], np.int64)
    return Split(files=[path for path, _ in samples], labels=labels)


def _divided(folder: Path, train: Split, seed: int, notes: list[str]) -> tuple[Split, Split]:
    """A training split without its own test, divided into train and test."""
    remaining, taken = divide.stratified(train.labels, TEST_SHARE, seed)
    if not len(taken):
        raise UserError(f"{folder} has one image in each class, which leaves none for the test: add images, or test/")
    notes.append(f"{TEST_SHARE:.0%} of each class are the test, by data.split_seed: {folder} names none")
    single = sum(count == 1 for count in Counter(train.labels.tolist()).values())
    if single:
        notes.append(f"{single:,} classes have one image: the test has none of them")
    return train[remaining], train[taken]


def _note_absent(part: str, classes: tuple[str, ...], present: set[str], notes: list[str]) -> None:
    absent = [label for label in classes if label not in present]
    if absent:
        more = ", ..." if len(absent) > 3 else ""
        notes.append(
            f"{part} has no images of {len(absent):,} of {len(classes):,} classes: "
            f"{', '.join(map(shown, absent[:3]))}{more}"
        )


def _note_overlap(parts: dict[str, list[Sample]], notes: list[str], linked: bool) -> None:
    identity = os.path.realpath if linked else os.fspath
    trained = {identity(path) for path, _ in parts["train"]}
    for part in parts.keys() - {"train"}:
        both = sum(identity(path) in trained for path, _ in parts[part])
        if both:
            notes.append(f"{both} images of {part} are in train too: its accuracy says less than it seems")
