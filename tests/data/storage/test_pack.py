"""Packing into shards and records: no sample is lost, and an interrupted call is resumed."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.core.errors import Failure, UserError
from distdl.data import files as encoded
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.sets.load import load
from distdl.data.storage.pack import Sample, _HashingSink, _shard, _write_records, pack, samples
from distdl.data.storage.records import LENGTH_BITS, MAGIC
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


def uneven() -> DataSet:
    """Gray images: large files in train, except the first, and small ones in test."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1), np.uint8)
    noise[0] = 0
    flat = np.zeros((40, 16, 16, 1), np.uint8)
    return DataSet(
        name="uneven",
        classes=("a", "b"),
        train=ResidentSplit(labels=np.arange(24) % 2, images=noise),
        test=ResidentSplit(labels=np.arange(40) % 2, images=flat),
        image_size=16,
        channels=1,
        central=0.5,
        mean=(0.25,),
        std=(0.75,),
    )


def png_bytes(image: np.ndarray) -> int:
    Image.fromarray(image).save(sink := io.BytesIO(), "PNG")
    return sink.tell()


@each_kind
def test_shards_have_the_requested_size_in_every_split(kind: str, tmp_path: Path) -> None:
    counts: list[int] = []
    dataset, shard_bytes = uneven(), 1600
    parts = pack(dataset, tmp_path / "out", kind, shard_bytes, counts.append).described.parts
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        per_shard = int(shard_bytes / np.mean([png_bytes(image[..., 0]) for image in split.images]))
        rest = len(split) % per_shard
        counted = [per_shard] * (len(split) // per_shard) + [rest] * bool(rest)
        assert len(counted) > 1 and [shard.samples for shard in parts[name]] == counted
    assert counts == [shard.samples for part in parts.values() for shard in part]
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {
        ".json",
        ".idx",
        ".npz",
        {"shards": ".tar", "records": ".rec"}[kind],
    }
    smallest = pack(uneven(), tmp_path / "smallest", kind, 1, silent).described
    assert {shard.samples for shard in smallest.shards()} == {1}


@each_kind
def test_the_description_has_every_property_of_the_set(kind: str, tmp_path: Path) -> None:
    dataset = uneven()
    described = pack(dataset, tmp_path, kind, 1600, silent).described
    assert (described.name, described.kind, described.classes, described.channels) == ("uneven", kind, ("a", "b"), 1)
    assert (described.image_size, described.central, described.mean, described.std) == (16, 0.5, (0.25,), (0.75,))


def test_the_index_of_a_split_finds_the_records_of_all_its_files(tmp_path: Path) -> None:
    described = pack(uneven(), tmp_path, "records", 1600, silent).described
    for part, shards in described.parts.items():
        content = b"".join((tmp_path / shard.file).read_bytes() for shard in shards)
        lines = (tmp_path / f"{part}.idx").read_text().splitlines()
        numbers, starts = zip(*(map(int, line.split()) for line in lines), strict=True)
        assert numbers == tuple(range(sum(shard.samples for shard in shards)))
        assert all(start % 4 == 0 and int.from_bytes(content[start : start + 4], "little") == MAGIC for start in starts)


def test_a_tar_shard_ends_with_two_blocks_of_zeros(tmp_path: Path) -> None:
    for shard in pack(uneven(), tmp_path, "shards", 1600, silent).described.shards():
        with tarfile.open(tmp_path / shard.file) as archive:
            last = archive.getmembers()[-1]
        assert shard.bytes == last.offset_data + 512 + 1024


def test_a_set_with_several_labels_in_one_split_is_refused(tmp_path: Path) -> None:
    dataset = uneven()
    several = replace(dataset.train, labels=np.zeros((24, 2), int))
    with pytest.raises(UserError, match="several labels per image"):
        pack(replace(dataset, train=several), tmp_path, "shards", 1600, silent)


def test_an_image_that_is_too_large_for_a_record_is_named() -> None:
    class Large(bytes):
        def __len__(self) -> int:
            return 2**LENGTH_BITS

    sink = _HashingSink(io.BytesIO())
    with pytest.raises(UserError, match="image 7 has 536,870,912 bytes, too many for a record: use shards"):
        _write_records(sink, iter([Sample(7, 0, Large(), "png")]))


def test_a_shard_without_all_of_its_images_is_written_again(tmp_path: Path) -> None:
    """Each call reports the unreadable images, so that it must read them again."""
    dataset = numbered("files", 5, tmp_path)
    dataset.train.files[3].write_text("not an image")
    for unreadable in ([], []):
        members = samples(dataset.train, np.arange(5), unreadable.append)
        row = _shard(tmp_path / "train-00000.tar", members, 5)
        assert row is not None and row.samples == 4
        assert "003.jpg" in str(unreadable[0]) and len(unreadable) == 1
    unchanged = _shard(tmp_path / "train-00000.tar", iter(()), 4)
    assert unchanged == row
