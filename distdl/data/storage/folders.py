"""Data sets of image files in folders: any layout that distdl.data.storage.layout reads, and Omniglot's archives."""

import os
import re
from pathlib import Path

import numpy as np

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.core.text import name as shown
from distdl.data.dataset import EncodedSplit, Raw
from distdl.data.storage import layout, tree
from distdl.data.storage.archives import extract
from distdl.data.storage.download import build, unpacked
from distdl.data.storage.lists import ListedImage
from distdl.data.storage.splits import stratified
from distdl.data.storage.tree import SUFFIXES as SUFFIXES
from distdl.data.storage.tree import Folder

TEST_SHARE = 0.2
"""Fraction of each class that becomes the test split if the folder has none."""
NUMBERED = re.compile(r"-[0-9]+\.(tar|rec)$", re.IGNORECASE)
"""Common names of shards: train-00000.tar, train-00000-of-00003.tar."""
UNFINISHED = ".unfinished-export"
"""File in a folder whose export is not finished."""


def read(folder: Path, config: DataConfig) -> Raw:
    """Read images by class, split by train.txt and test.txt, or by the folders train/ and val/ or test/.

    If the folder has only class folders, a fifth of each class becomes the test split, selected by `split_seed`. If
    there is no test split, val is used as the test split.

    Raises:
        UserError: there are no images, the folder is ambiguous, or a list names files that do not exist.
    """
    if (folder / UNFINISHED).exists():
        raise UserError(f"{folder} is an unfinished export: run distdl data export again, or remove {UNFINISHED} in it")
    return read_tree(folder, config)


def read_tree(folder: Path, config: DataConfig) -> Raw:
    """Read a folder as `read` does, even if an export to it is not finished."""
    matches = tree.walk(folder)
    if any(child.total for child in matches.top.folders):
        _refuse_shards(matches.top)
    notes: list[str] = []
    parts = layout.read(matches.top, notes)
    notes += matches.notes()
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        notes.append("val is used as the test split: there is no test split")
    return _raw(folder, parts, notes, config.split_seed, linked=matches.linked)


def _refuse_shards(folder: Folder) -> None:
    """Refuse images next to shards: leaving out either would change the data set.

    Archives that are not named like shards (images.tar) are left out with a note.

    Raises:
        UserError: the folder has images as well as numbered shards.
    """
    names = (name for inner in folder.below() for name in inner.others)
    if numbered := next((name for name in names if NUMBERED.search(name)), None):
        raise UserError(
            f"{folder.path} can be read in two ways: as shards ({shown(numbered)}) and as folders of images; move one "
            "of them"
        )


def read_omniglot(folder: Path, config: DataConfig) -> Raw:
    """Read Omniglot's characters from its archives or their folders: drawers 1 to 15 for training, 16 to 20 for test.

    The background set is used if it exists, otherwise the two small ones, which share alphabets.

    Raises:
        UserError: neither is in the folder.
    """
    samples: dict[str, ListedImage] = {}
    notes: list[str] = []
    for names in (("images_background",), ("images_background_small1", "images_background_small2")):
        for part in filter(None, (_opened(folder, name) for name in names)):
            matches = tree.walk(part)
            notes += matches.notes()
            files = matches.top.files()
            drawings = [file for file in files if _is_drawing(file.relative_to(part))]
            if stray := sorted(set(files) - set(drawings)):
                notes.append(
                    f"{len(stray):,} images of {part} are left out, because they are not named "
                    f"ALPHABET/CHARACTER/NUMBER_DRAWER.png: {shown(stray[0].name)}" + ", ..." * (len(stray) > 1)
                )
            for image in drawings:
                character = image.parent.relative_to(part).as_posix()
                samples.setdefault(f"{character}/{image.name}", (image, character))
        if samples:
            break
    else:
        raise UserError(f"{folder} has neither images_background.zip nor images_background_small1.zip")
    parts: dict[str, list[ListedImage]] = {"train": [], "test": []}
    for path, character in samples.values():
        parts["train" if _drawer(path) <= 15 else "test"].append((path, character))
    return _raw(folder, parts, notes, config.split_seed)


def _is_drawing(path: Path) -> bool:
    return len(path.parts) == 3 and 1 <= _drawer(path) <= 20


def _drawer(path: Path) -> int:
    """Return the number of the drawer of a character: 1 for 0709_01.png; 0 if the name has another form."""
    matches = re.fullmatch(r"[0-9]+_([0-9]{2})", path.stem)
    return int(matches[1]) if matches else 0


def _opened(folder: Path, name: str) -> Path | None:
    """Return the folder `name`; if missing, its archive is unpacked next to it, or to the cache if it is read-only."""
    if (folder / name).is_dir():
        return folder / name
    archive = folder / f"{name}.zip"
    if not archive.is_file():
        return None
    if os.access(folder, os.W_OK):
        return build(folder / name, lambda scratch: extract(archive, scratch))
    return unpacked(archive)


def _raw(folder: Path, parts: dict[str, list[ListedImage]], notes: list[str], seed: int, linked: bool = False) -> Raw:
    if not parts["train"]:
        raise UserError(
            f"{folder} has no images to train on: it needs CLASS folders, or train/ and val/ with CLASS folders, or "
            "train.txt and test.txt"
        )
    classes = tuple(sorted({label for _, label in parts["train"]}))
    numbers = {label: number for number, label in enumerate(classes)}
    for part, samples in parts.items():
        unknown = next((label for _, label in samples if label not in numbers), None)
        if unknown is not None:
            raise UserError(f"{folder}: class {shown(unknown)} is in {part} but not in train")
    splits = {part: _split(samples, numbers) for part, samples in parts.items()}
    if "test" not in splits:
        splits["train"], splits["test"] = _divided(folder, splits["train"], seed, notes)
    _note_overlap(parts, notes, linked)
    return Raw(**splits, classes=classes, notes=tuple(notes))


def _split(samples: list[ListedImage], numbers: dict[str, int]) -> EncodedSplit:
    labels = np.array([numbers[label] for _, label in samples], np.int64)
    return EncodedSplit(files=[path for path, _ in samples], labels=labels)


def _divided(folder: Path, train: EncodedSplit, seed: int, notes: list[str]) -> tuple[EncodedSplit, EncodedSplit]:
    """Divide the training samples into a training and a test split."""
    remaining, selected = stratified(train.labels, TEST_SHARE, seed)
    if not len(selected):
        raise UserError(f"{folder} has one image per class, which leaves none for the test split: add images or test/")
    notes.append(
        f"{TEST_SHARE:.0%} of each class are the test split, selected by data.split_seed: {folder} has no test split"
    )
    return train[remaining], train[selected]


def _note_overlap(parts: dict[str, list[ListedImage]], notes: list[str], linked: bool) -> None:
    identity = os.path.realpath if linked else os.fspath
    trained = {identity(path) for path, _ in parts["train"]}
    for part in parts.keys() - {"train"}:
        overlap = sum(identity(path) in trained for path, _ in parts[part])
        if overlap:
            notes.append(f"{overlap} images of {part} are in train too: the accuracy on {part} is too optimistic")
