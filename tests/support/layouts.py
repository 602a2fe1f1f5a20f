"""Image folders for tests: creation from paths, and the samples that distdl reads."""

from pathlib import Path

from distdl.core.config import DataConfig
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load

IMAGE = b"an image that is never decoded"


def make(folder: Path, paths: str | list[str]) -> Path:
    """Create files at paths (separated by spaces): images, empty files for other suffixes, folders if "/" is last."""
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
    """Read the data set of a folder without decoding an image."""
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
