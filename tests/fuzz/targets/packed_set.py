"""Packed sets with set.json, as shards and as records: one of their files is damaged."""

import os
import shutil
from pathlib import Path

import numpy as np

from distdl.core.config import DataConfig
from distdl.data import files as encoded
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.sets.load import load
from distdl.data.storage.pack import pack
from fuzz.run import Target


def seeds(folder: Path) -> dict[str, bytes]:
    """Every file of a set of 40 images in both kinds, by KIND/NAME."""
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8)
    split = ResidentSplit(labels=np.arange(40) % 5, images=images)
    dataset = DataSet(name="noise", classes=("ant", "bee", "cat", "dog", "eel"), train=split, test=split[np.arange(9)],
                      image_size=6, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))  # fmt: skip
    for kind in ("shards", "records"):
        pack(dataset, folder / kind, kind, 2000, lambda _: None)
    files = [file for kind in ("shards", "records") for file in sorted((folder / kind).iterdir())]
    prefixes = ("set.json", "train-00000", "test-00000", "train.idx")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.name.startswith(prefixes)}


def content_of(dataset: DataSet) -> list[object]:
    """All content of a data set that a training reads."""
    fields = [dataset.classes, dataset.channels, dataset.image_size, dataset.central, dataset.mean, dataset.std]
    for split in (dataset.train, dataset.test):
        fields += [split.labels.tolist(), [encoded.read(file).tobytes() for file in split.files]]
    return fields


def check(folder: Path, name: str, content: bytes) -> None:
    """The set equals the undamaged one: set.json has a checksum of every file and of its own content."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    kind, _, file = name.partition("/")
    shutil.copytree(folder.parent / kind, folder / "damaged")
    (folder / "damaged" / file).write_bytes(content)
    actual = load(DataConfig(name=str(folder / "damaged")))
    expected = load(DataConfig(name=str(folder.parent / kind)))
    assert content_of(actual) == content_of(expected), "another set"


TARGET = Target(seeds=seeds, check=check, share=20)
