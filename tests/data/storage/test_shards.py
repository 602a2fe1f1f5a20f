"""Packed sets: reading shards of distdl and of other programs, and the samples that loaders deliver."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data import files as encoded
from distdl.data.files import Unreadable
from distdl.data.loaders import make_loader
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.sets.load import load
from distdl.runtime.world import World
from numbered_sets import pictures
from packed_sets import each_kind, packed


@each_kind
def test_a_missing_or_truncated_shard_is_named(kind: str, tmp_path: Path) -> None:
    _, packed_set = packed(kind, 31, tmp_path)
    shard = packed_set.train.files.paths[1]
    shard.write_bytes(shard.read_bytes()[:-600])
    with pytest.raises(UserError, match=shard.name):
        load(DataConfig(name=str(tmp_path / "packed")))
    shard.unlink()
    with pytest.raises(UserError, match="is missing"):
        load(DataConfig(name=str(tmp_path / "packed")))
    index = np.flatnonzero(packed_set.train.files.number == 1)[0]
    with pytest.raises(Unreadable, match=f"{shard.name} at byte"):
        encoded.read(packed_set.train.files[index])


def test_splits_of_other_shards_are_read_from_their_names(tmp_path: Path) -> None:
    pixels = pictures(6)
    for part, members in (("train", (0, 1, 2, 3)), ("val", (4, 5))):
        with tarfile.open(tmp_path / f"{part}-000.tar", "w") as tar:
            for number in members:
                sink = io.BytesIO()
                Image.fromarray(pixels[number]).save(sink, "PNG")
                for suffix, content in (("png", sink.getvalue()), ("cls", str(number % 3).encode())):
                    head = tarfile.TarInfo(f"a/{number}.{suffix}")
                    head.size = len(content)
                    tar.addfile(head, io.BytesIO(content))
    dataset = load(DataConfig(name=str(tmp_path)))
    assert dataset.train.labels.tolist() == [0, 1, 2, 0] and dataset.test.labels.tolist() == [1, 2]
    assert len(dataset.classes) == 3 and any("val" in note for note in dataset.notes)
    assert (np.asarray(Image.open(io.BytesIO(encoded.read(dataset.test.files[1])))) == pixels[5]).all()


def test_a_shard_without_labels_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        head = tarfile.TarInfo("1.jpg")
        tar.addfile(head, io.BytesIO(b""))
    with pytest.raises(UserError, match=r"1 has no label \(a member 1.cls\)"):
        load(DataConfig(name=str(tmp_path)))
    (tmp_path / "train-0.tar").write_bytes(b"nothing of the kind" * 99)
    with pytest.raises(UserError, match="cannot be read as a tar shard"):
        load(DataConfig(name=str(tmp_path)))


@each_kind
@pytest.mark.parametrize("loader", ["torch", "dali", "resident"])
def test_loaders_deliver_packed_samples_in_the_specified_order(kind: str, loader: str, tmp_path: Path) -> None:
    original, packed_set = packed(kind, 31, tmp_path)
    config = Config(seed=3, data=DataConfig(loader=loader, workers=1, batch_size=4, augment=AugmentConfig(flip=0.5)))
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    expected = {}
    for rank in range(2):
        world = World(rank=rank, size=2)
        spec = LoaderSpec(config=config, dataset=packed_set, split=packed_set.train, world=world, training=True)
        built_loader = make_loader(config, packed_set, packed_set.train, world, training=True)
        for start in (0, 8):
            batches = list(built_loader.epoch(1, start))
            steps = list(spec.steps(1, start))
            assert [batch.labels.tolist() for batch in batches] == [
                packed_set.train.labels[step.indices].tolist() for step in steps
            ]
        for batch in batches:
            expected |= dict(zip(batch.labels.tolist(), batch.images.clone(), strict=True))
        built_loader.close()
    # The same pixels as the unpacked files; flips depend on the position in the list, so both versions are valid.
    loose = make_loader(replace(config, data=DataConfig(loader="torch", workers=0)), original, original.train, World(),
                        training=False)  # fmt: skip
    for batch in loose.epoch(0):
        for label, image in zip(batch.labels.tolist(), batch.images, strict=True):
            if label in expected:
                assert torch.equal(expected[label], image) or torch.equal(expected[label], image.flip(-1))


def test_a_damaged_sample_of_a_shard_is_skipped_and_listed(tmp_path: Path) -> None:
    _, packed_set = packed("records", 9, tmp_path)
    part = packed_set.train.files[4]
    with part.path.open("r+b") as file:
        file.seek(part.offset)
        file.write(bytes(part.size))
    for loader in ("torch", "dali"):
        config = Config(seed=3, data=DataConfig(loader=loader, workers=1, batch_size=4, on_error="skip"))
        built_loader = make_loader(config, packed_set, packed_set.train, World(), training=True)
        assert sum(batch.count for batch in built_loader.epoch(0)) == 9
        built_loader.close()
        assert len(built_loader.skipped) == 1 and f"at byte {part.offset}" in built_loader.skipped[0]
