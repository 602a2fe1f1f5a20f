"""Packed sets: what is written, who else can read it, what the loaders make of it, and how well its order mixes."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import Failure, UserError
from distdl.data import files as encoded
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.files import ShardParts, Unreadable
from distdl.data.loaders import make_loader, order
from distdl.data.loaders import prefetch as ahead
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.sets.load import load
from distdl.data.storage.export import export
from distdl.data.storage.pack import pack
from distdl.runtime.world import World
from numbered_sets import numbered, pictures

KINDS = ["shards", "records"]
each_kind = pytest.mark.parametrize("kind", KINDS)
SHARD_BYTES = 8000


def silent(_: int) -> None:
    """Ignore the progress."""


def packed(kind: str, n: int, tmp_path: Path) -> tuple[DataSet, DataSet]:
    """A set of files, and the same packed and loaded again."""
    (tmp_path / "files").mkdir()
    dataset = numbered("files", n, tmp_path / "files")
    pack(dataset, tmp_path / "packed", kind, SHARD_BYTES, silent)
    return dataset, load(DataConfig(name=str(tmp_path / "packed")))


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
def test_packing_goes_on_where_it_was_cut_off(kind: str, tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match="has the packing of another"):
        pack(dataset, tmp_path / "out", "records", SHARD_BYTES, silent)
    with pytest.raises(UserError, match="not empty"):
        pack(dataset, tmp_path, "shards", SHARD_BYTES, silent)


def test_a_disk_that_loses_data_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_shard_that_is_gone_or_cut_is_named(kind: str, tmp_path: Path) -> None:
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


def test_shards_of_others_are_read_by_their_names(tmp_path: Path) -> None:
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
def test_loaders_deliver_packed_samples_in_the_tasks_order(kind: str, loader: str, tmp_path: Path) -> None:
    original, packed_set = packed(kind, 31, tmp_path)
    config = Config(seed=3, data=DataConfig(loader=loader, workers=1, batch_size=4, augment=AugmentConfig(flip=0.5)))
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    expected = {}
    for rank in range(2):
        world = World(rank=rank, size=2)
        spec = LoaderSpec(config=config, dataset=packed_set, split=packed_set.train, world=world, training=True)
        made = make_loader(config, packed_set, packed_set.train, world, training=True)
        for start in (0, 8):
            batches = list(made.epoch(1, start))
            steps = list(spec.steps(1, start))
            assert [batch.labels.tolist() for batch in batches] == [
                packed_set.train.labels[step.indices].tolist() for step in steps
            ]
        for batch in batches:
            expected |= dict(zip(batch.labels.tolist(), batch.images.clone(), strict=True))
        made.close()
    # The very pixels of the unpacked files; flips go by the place in the list, so either of the two.
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
        made = make_loader(config, packed_set, packed_set.train, World(), training=True)
        assert sum(batch.count for batch in made.epoch(0)) == 9
        made.close()
        assert len(made.skipped) == 1 and f"at byte {part.offset}" in made.skipped[0]


def test_the_order_reads_each_block_once_and_mixes_what_it_holds_together() -> None:
    bounds = np.concatenate([[0], np.cumsum(np.random.default_rng(0).integers(50, 90, 200))])
    n, together = int(bounds[-1]), 16
    seen = set()
    for epoch in range(3):
        sequence = order.order_in_blocks(5, epoch, bounds, together)
        assert (np.sort(sequence) == np.arange(n)).all()
        seen.add(sequence.tobytes())
        block = np.searchsorted(bounds, sequence, "right") - 1
        first, last = np.zeros(200, int), np.zeros(200, int)
        for number in range(200):
            places = np.flatnonzero(block == number)
            first[number], last[number] = places[0], places[-1]
        # At no place are samples outstanding of more blocks than are held together.
        open_blocks = [((first <= place) & (last >= place)).sum() for place in range(0, n, 37)]
        assert max(open_blocks) <= together
        # Stated: two samples of a batch share a block in one case of `together`; 5 sigma of 200 batches' pairs is 10 %.
        batches = block[: n // 64 * 64].reshape(-1, 64)
        same = np.mean([(row[:, None] == row[None, :]).sum() - 64 for row in batches]) / (64 * 63)
        assert 0.85 / together < same < 1.15 / together
    assert len(seen) == 3


def test_a_small_packed_set_is_shuffled_in_full() -> None:
    bounds = np.array([0, 40, 80, 120])
    places = np.array([np.argsort(order.order_in_blocks(1, epoch, bounds)) for epoch in range(2000)])
    # Each sample's mean place over epochs is the middle; its standard error is 120 / sqrt(12 * 2000) = 0.8; 6 of them.
    assert np.abs(places.mean(0) - 59.5).max() < 4.7
    # Neighbours in the file end up as far apart as any two: a third of the set, with a standard error of 0.6.
    assert np.abs(np.abs(np.diff(places, axis=1)).mean() - 121 / 3) < 1


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
    # Chi-squared of a fair draw has a mean of 3 a shard; sorted shards would have 3 times the size of each.
    expected = counts.sum(1, keepdims=True) / 4
    assert ((counts - expected) ** 2 / expected).sum() < 3 * len(counts) + 5 * np.sqrt(6 * len(counts))


def test_blocks_are_read_ahead_once_and_in_the_order_of_their_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "BLOCKS_PER_GROUP", 3)
    monkeypatch.setattr(order.groups, "__defaults__", (3,))
    monkeypatch.setattr(ShardParts.blocks, "__defaults__", (4000,))
    _, packed_set = packed("shards", 31, tmp_path)
    spec = LoaderSpec(config=Config(seed=3), dataset=packed_set, split=packed_set.train, world=World(), training=True)
    reading = ahead.ReadAhead(spec, spec.shard_parts, 0)
    assert len(reading.groups) > 3
    with reading:
        reading.advance(31)
        reading._thread.join(60)
    sizes = np.cumsum([len(group) for group in reading.groups])
    assert sorted(reading.read) == sorted(set(reading.read))
    with ahead.ReadAhead(spec, spec.shard_parts, 0) as reading:
        for position in range(32):
            reading.advance(position)
            group = int(np.searchsorted(reading.group_starts, position, "right")) - 1
            assert len(reading.read) <= sizes[min(group + 1, len(sizes) - 1)]


@pytest.mark.parametrize("size", [None, 0, 16])
def test_export_writes_folders_that_are_the_same_set(size: int | None, tmp_path: Path) -> None:
    _, packed_set = packed("shards", 12, tmp_path)
    counts: list[int] = []
    assert export(packed_set, tmp_path / "out", size, counts.append) == 19 == len(counts)
    again = load(DataConfig(name=str(tmp_path / "out")))
    assert len(again.train) == 12 and len(again.test) == 7
    by_class = {again.classes[label]: file for file, label in zip(again.train.files, again.train.labels, strict=True)}
    for file, label in zip(packed_set.train.files, packed_set.train.labels, strict=True):
        other = by_class[str(label)]
        if size is None:
            assert other.read_bytes() == encoded.read(file).tobytes()
        else:
            with Image.open(other) as image:
                assert min(image.size) == (16 if size else 30)
    original = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.jpg")}
    lost = next(iter(original))
    lost.unlink()
    export(packed_set, tmp_path / "out", size, silent)
    assert lost.exists()
    assert all(file.stat().st_mtime_ns == time for file, time in original.items() if file != lost)


def test_the_manifest_says_what_the_set_is(tmp_path: Path) -> None:
    packed("shards", 9, tmp_path)
    message = json.loads((tmp_path / "packed" / "set.json").read_text())
    assert message["kind"] == "shards" and sum(row["samples"] for row in message["parts"]["train"]) == 9
    (tmp_path / "packed" / "set.json").write_text("{")
    with pytest.raises(UserError, match=r"set\.json"):
        load(DataConfig(name=str(tmp_path / "packed")))


def test_orders_of_any_two_seeds_differ() -> None:
    assert len({order.order(seed, 1, 50).tobytes() for seed in (-1, -2, 0, 2**63, 2**63 + 1)}) == 5
