"""Packing into shards and records: no sample is lost, and an interrupted call is resumed."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.core.errors import Failure, UserError
from distdl.data import files as encoded
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.sets.load import load
from distdl.data.storage.pack import pack
from numbered_sets import numbered
from packed_sets import SHARD_BYTES, each_kind, packed, silent


@each_kind
def test_packing_keeps_every_byte_and_label(kind: str, tmp_path: Path) -> None:
    original, packed_set = packed(kind, 31, tmp_path)
    assert (packed_set.classes, packed_set.channels, packed_set.image_size) == (original.classes, 3, 24)
    assert (packed_set.mean, packed_set.std) == (original.mean, original.std)
    assert len(packed_set.train.files.paths) > 2
    assert sorted(packed_set.train.labels.tolist()) == list(range(31))
    assert packed_set.train.labels.tolist() != list(range(31))
    assert packed_set.test.labels.tolist() == original.test.labels.tolist()
    for file, label in zip(packed_set.train.files, packed_set.train.labels, strict=True):
        assert (encoded.read(file) == encoded.read(original.train.files[label])).all()


@each_kind
def test_images_in_memory_are_packed_without_loss(kind: str, tmp_path: Path) -> None:
    dataset = numbered("memory", 9, tmp_path)
    pack(dataset, tmp_path / "packed", kind, 10**6, silent)
    packed_set = load(DataConfig(name=str(tmp_path / "packed"))).train
    for file, label in zip(packed_set.files, packed_set.labels, strict=True):
        assert (np.asarray(Image.open(io.BytesIO(encoded.read(file)))) == dataset.train.images[label]).all()


@each_kind
def test_interrupted_packing_is_resumed(kind: str, tmp_path: Path) -> None:
    dataset = numbered("files", 31, tmp_path)
    complete, cut = tmp_path / "whole", tmp_path / "cut"
    pack(dataset, complete, kind, SHARD_BYTES, silent)
    done: list[int] = []

    def stop(count: int) -> None:
        done.append(count)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(dataset, cut, kind, SHARD_BYTES, stop)
    remaining = sorted(cut.glob("train-*.???"))[0]
    original = remaining.stat().st_mtime_ns
    (cut / "train-00001.idx").with_suffix({"shards": ".tar", "records": ".rec"}[kind]).write_bytes(b"half")
    pack(dataset, cut, kind, SHARD_BYTES, silent)
    assert remaining.stat().st_mtime_ns == original
    assert sorted(file.name for file in complete.iterdir()) == sorted(file.name for file in cut.iterdir())
    assert (complete / "set.json").read_bytes() == (cut / "set.json").read_bytes()
    for file in complete.iterdir():
        assert file.suffix == ".npz" or (cut / file.name).read_bytes() == file.read_bytes()


def test_packing_does_not_mix_two_sets(tmp_path: Path) -> None:
    dataset = numbered("files", 9, tmp_path)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(dataset, tmp_path / "out", "shards", SHARD_BYTES, stop)
    with pytest.raises(UserError, match="has the packing of this data set with another --format"):
        pack(dataset, tmp_path / "out", "records", SHARD_BYTES, silent)
    with pytest.raises(UserError, match="not empty"):
        pack(dataset, tmp_path, "shards", SHARD_BYTES, silent)


def test_data_lost_by_the_disk_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distdl.data.storage import pack as module

    real = module.write_atomic

    def lossy(file: Path, write: object) -> None:
        real(file, write)
        if file.suffix == ".tar":
            content = bytearray(file.read_bytes())
            content[700] ^= 1
            file.write_bytes(content)

    monkeypatch.setattr(module, "write_atomic", lossy)
    with pytest.raises(Failure, match="loses data"):
        pack(numbered("files", 9, tmp_path), tmp_path / "out", "shards", SHARD_BYTES, silent)


@each_kind
def test_dali_reads_what_was_packed(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def

    original, packed_set = packed(kind, 31, tmp_path)
    paths = list(map(str, packed_set.train.files.paths))
    indices = (
        [str(tmp_path / "packed" / "train.idx")]
        if kind == "records"
        else [path.rsplit(".", 1)[0] + ".idx" for path in paths]
    )

    @pipeline_def(batch_size=31, num_threads=1, device_id=None)
    def pipeline() -> object:
        if kind == "records":
            return tuple(fn.readers.mxnet(path=paths, index_path=indices))
        return tuple(fn.readers.webdataset(paths=paths, index_paths=indices, ext=["jpg", "cls"]))

    images, labels = pipeline().run()
    for place in range(31):
        label = np.array(labels.at(place))
        number = int(label[0]) if kind == "records" else int(label.tobytes())
        assert (np.array(images.at(place)) == encoded.read(original.train.files[number])).all()


def test_packing_mixes_the_classes_of_sorted_files(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(4), 60)
    images = np.zeros((240, 4, 4, 3), np.uint8)
    split = ResidentSplit(labels=labels, images=images)
    dataset = DataSet(name="sorted", classes=tuple("abcd"), train=split, test=split[np.arange(4)], image_size=4)
    pack(dataset, tmp_path / "out", "shards", 4000, silent)
    packed_set = load(DataConfig(name=str(tmp_path / "out"))).train
    shards = [packed_set.labels[packed_set.files.number == number] for number in range(len(packed_set.files.paths))]
    counts = np.array([np.bincount(shard, minlength=4) for shard in shards if len(shard) == len(shards[0])])
    assert len(counts) >= 4
    # For random shards chi-squared has a mean of 3 per shard; for sorted shards it is 3 times the shard's size.
    expected = counts.sum(1, keepdims=True) / 4
    assert ((counts - expected) ** 2 / expected).sum() < 3 * len(counts) + 5 * np.sqrt(6 * len(counts))


def test_the_manifest_describes_the_set(tmp_path: Path) -> None:
    packed("shards", 9, tmp_path)
    message = json.loads((tmp_path / "packed" / "set.json").read_text())
    assert message["kind"] == "shards" and sum(row["samples"] for row in message["parts"]["train"]) == 9
    (tmp_path / "packed" / "set.json").write_text("{")
    with pytest.raises(UserError, match=r"set\.json"):
        load(DataConfig(name=str(tmp_path / "packed")))
