"""Image folders: file names of a data set are damaged, and a folder with the resulting names is read."""

import contextlib
import os
from pathlib import Path

from distdl.core.config import DataConfig
from distdl.data.sets.load import load
from fuzz.run import Target

SPLITS = {"train": "train", "val": "validation", "test": "test"}
IMAGES = (".png", ".jpg")


def seeds(_folder: Path) -> dict[str, bytes]:
    """Lists of the files of three layouts."""
    inner = [f"{label}/{number}.png" for label in ("cat", "dog", "bus") for number in range(3)]
    other_files = ["README.md", "__MACOSX/._a.png", "images.tar"]
    layouts = {
        "divided": [f"{split}/{path}" for split in SPLITS for path in inner] + other_files,
        "classes": inner + other_files,
        "wrapped": [f"photos/{split}/{path}" for split in ("train", "test") for path in inner] + other_files,
    }
    return {name: "\n".join(paths).encode() for name, paths in layouts.items()}


def check(folder: Path, _name: str, content: bytes) -> None:
    """Samples are images of the tree, each once, of a class that its path names, in the split that its path names."""
    top = folder / "set"
    top.mkdir()
    for line in content.replace(b"\0", b"").split(b"\n"):
        path = top / os.fsdecode(line.strip(b"/"))
        if ".." in path.parts:
            continue
        with contextlib.suppress(OSError):  # a file where a folder is, or a name that is too long
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    dataset = load(DataConfig(name=str(top), normalize="none"))
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    seen: set[Path] = set()
    for split, part in ((split, part) for split, part in parts.items() if part is not None):
        for file, label in zip(part.files, part.labels.tolist(), strict=True):
            inner = file.relative_to(top).parts
            assert file.suffix.lower() in IMAGES and file.is_file() and file not in seen, f"{file} in {split}"
            assert dataset.classes[label] in inner[:-1], f"{file} as {dataset.classes[label]}"
            named = {SPLITS[name] for name in inner[:2] if name in SPLITS}
            serves = {"test", "validation"} if dataset.validation is None and split == "test" else {split}
            divided = any("there is no test split" in note or "are the test split," in note for note in dataset.notes)
            assert not named or named & serves or (divided and "train" in named), f"{file} in {split}"
            seen.add(file)
    images = {file for file in top.rglob("*") if file.suffix.lower() in IMAGES and not _hidden(file.relative_to(top))}
    assert images == seen or dataset.notes, f"{len(images - seen)} images are omitted without a note"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part.lower() == "__macosx" for part in path.parts)


TARGET = Target(seeds=seeds, check=check, share=5)
