"""Data sets that are folders of image files: split folders, split files, folders of classes, Omniglot's archives."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from distdl.config import DataConfig
from distdl.data import divide
from distdl.data.base import Raw, Split
from distdl.data.places import build, cache_folder, extract
from distdl.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
PRUNED = "BACKGROUND"
"""Caltech-101 has a class of this name that is none: pictures of anything else."""
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
"""What the parts of a division may be called, as folders and as .txt files."""
TEST_SHARE = 0.2
"""Share of each class that becomes the test where a folder names none."""

Sample = tuple[Path, str]
"""A file and the name of its class."""


def read(folder: Path, config: DataConfig) -> Raw:
    """Images by class, divided as the folder says: by train.txt and test.txt, or by train/ and val/ or test/.

    A folder of class folders alone gives a fifth of each class to the test, by `split_seed`. What is named val serves
    as the test where nothing is named test.

    Raises:
        UserError: there are no images, or a list names files or classes that are not there.
    """
    notes: list[str] = []
    lists = {part: _first(folder, [f"{name}.txt" for name in names]) for part, names in PARTS.items()}
    folders = {part: _first(folder, names) for part, names in PARTS.items()}
    if lists["train"]:
        parts = {part: _listed(folder, path, notes) for part, path in lists.items() if path}
    elif folders["train"]:
        parts = {part: _by_class(path, notes) for part, path in folders.items() if path}
    else:
        parts = {"train": _by_class(folder, notes)}
    if folders["test"] and not parts.get("test", [None]):
        del parts["test"]  # as the Visual Decathlon has it: images, and no class folders that would tell what they are
        notes.append(f"{folders['test']} has no class folders: it is left out")
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        notes.append("what is named val serves as the test: nothing is named test")
    return _raw(folder, parts, notes, config.split_seed)


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


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _by_class(folder: Path, notes: list[str]) -> list[Sample]:
    """The images below each class folder, in the order of their paths. Classes without images are noted."""
    samples: list[Sample] = []
    odd: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_dir() or entry.name.startswith((".", PRUNED)):
            if entry.name.startswith(PRUNED):
                notes.append(f"class {entry.name} is left out: it is none")
            continue
        found = []
        for place, subfolders, names in os.walk(entry.path):
            subfolders.sort()
            for name in sorted(names):
                if os.path.splitext(name)[1].lower() in SUFFIXES:  # noqa: PTH122  (a million files: strings are faster)
                    found.append((Path(place, name), entry.name))
                elif not name.startswith("."):
                    odd.append(name)
        if not found:
            notes.append(f"class folder {entry.path} has no images: the class is left out")
        samples += found
    _note_odd(odd, folder, notes)
    return samples


def _note_odd(names: list[str], folder: Path, notes: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        notes.append(f"left out of {folder}, since they are not named like images: {', '.join(names[:3])}{more}")


def _listed(folder: Path, path: Path, notes: list[str]) -> list[Sample]:
    """The files that a list names, one a line, CLASS/FILE below the folder or below one folder in it."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    names = [line for line in lines if line and not Path(line).name.startswith(".")]
    kept = [name for name in names if not Path(name).parent.name.startswith(PRUNED)]
    if len(kept) < len(names):
        notes.append(f"{len(names) - len(kept)} lines of {path.name} are left out: {PRUNED} is no class")
    if any(Path(name).is_absolute() or ".." in Path(name).parts or len(Path(name).parts) < 2 for name in kept):
        raise UserError(f"{path} has a line that is not of the form CLASS/FILE")
    bases = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    base = next((base for base in bases if kept and (base / kept[0]).exists()), folder)
    lost = [name for name in kept if not (base / name).is_file()]
    if lost:
        more = f", nor are {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise UserError(f"{path} names {lost[0]}, which is not in {base}{more}")
    return [(base / name, Path(name).parent.name) for name in kept]


def _raw(folder: Path, parts: dict[str, list[Sample]], notes: list[str], seed: int) -> Raw:
    if not parts["train"]:
        raise UserError(
            f"{folder} has no images to train on: it needs CLASS folders, or train/ and val/ that have them, "
            "or train.txt and test.txt"
        )
    classes = tuple(sorted({label for _, label in parts["train"]}))
    numbers = {label: number for number, label in enumerate(classes)}
    for part, samples in parts.items():
        unknown = next((label for _, label in samples if label not in numbers), None)
        if unknown:
            raise UserError(f"{folder}: class {unknown} is in {part} but not in train")
    splits = {part: _split(samples, numbers) for part, samples in parts.items()}
    if "test" not in splits:
        kept, taken = divide.stratified(splits["train"].labels, TEST_SHARE, seed)
        splits["train"], splits["test"] = splits["train"][kept], splits["train"][taken]
        notes.append(f"{TEST_SHARE:.0%} of each class are the test, by data.split_seed: {folder} names none")
    _note_overlap(parts, notes)
    return Raw(**splits, classes=classes, notes=tuple(notes))


def _split(samples: list[Sample], numbers: dict[str, int]) -> Split:
    labels = np.array([numbers[label] for _, label in samples], np.int64)
    return Split(files=[path for path, _ in samples], labels=labels)


def _note_overlap(parts: dict[str, list[Sample]], notes: list[str]) -> None:
    trained = {path for path, _ in parts["train"]}
    for part in parts.keys() - {"train"}:
        both = sum(path in trained for path, _ in parts[part])
        if both:
            notes.append(f"{both} images of {part} are in train too: its accuracy says less than it seems")
