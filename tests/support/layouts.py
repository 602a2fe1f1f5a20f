"""Image folders for tests: trees from path names, and what the product makes of them."""

from pathlib import Path

from distdl.core.config import DataConfig
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load

IMAGE = b"an image that no test of layouts decodes"


def make(folder: Path, paths: str | list[str]) -> Path:
    """A tree from paths (split at spaces): images, other files as empty ones, folders where a path ends in "/"."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths.split() if isinstance(paths, str) else paths:
        file = folder / path
        if path.endswith("/"):
            file.mkdir(parents=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(IMAGE if file.suffix.lower() in (".png", ".jpg", ".jpeg") else b"")
    return folder


def read(folder: Path, **settings: object) -> DataSet:
    """The set of a folder; no image is decoded."""
    return load(DataConfig(name=str(folder), normalize="none", **settings))


def splits(dataset: DataSet, folder: Path) -> dict[str, list[str]]:
    """CLASS=PATH of each sample by split, paths relative to the folder."""
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        name: sorted(
            f"{dataset.classes[label]}={file.relative_to(folder).as_posix()}"
            for file, label in zip(split.files, split.labels.tolist(), strict=True)
        )
        for name, split in parts.items()
        if split is not None
    }
