"""Tests that every loader passes: one row of LOADERS each."""

import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.config import AugmentConfig, ComputeConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.loaders import choose, make_loader, order
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.sets.load import load
from distdl.runtime.world import World
from distdl.telemetry.clock import Clock
from numbered_sets import numbered
from small_loaders import config_of as settings_of
from small_loaders import loader_of, run

ALL = AugmentConfig(flip=0.5, crop=3, color_jitter=0.5, rotation=20, mixup=0.2, cutmix=1.0)


@dataclass(frozen=True)
class Case:
    """A loader, its number of worker processes, and the kinds of data sets that it reads."""

    loader: str
    kinds: tuple[str, ...]
    workers: int = 0
    needs: str = ""
    real: bool = True
    """Whether it delivers the pixels of the samples."""


LOADERS = [
    Case("resident", ("memory", "files")),
    Case("torch", ("memory", "files")),
    Case("torch", ("memory", "files"), workers=2),
    Case("dali", ("files",), workers=2, needs="nvidia.dali"),
    Case("synthetic", ("memory", "files"), real=False),
]
ROWS = [pytest.param(case, kind, id=f"{case.loader}-{case.workers}-{kind}") for case in LOADERS for kind in case.kinds]
FILES = [row for row in ROWS if row.values[1] == "files" and row.values[0].real]
each_loader = pytest.mark.parametrize(("case", "kind"), ROWS)
each_that_reads_files = pytest.mark.parametrize(("case", "kind"), FILES)


def config_of(case: Case, **data: object) -> Config:
    if case.needs:
        pytest.importorskip(case.needs)
    return settings_of(case.loader, case.workers, **data)


@each_loader
def test_the_loader_is_the_configured_one(case: Case, kind: str, tmp_path: Path) -> None:
    loader = loader_of(config_of(case), numbered(kind, 9, tmp_path))
    assert (loader.name, loader.reason) == (case.loader, "data.loader asks for it")
    loader.close()


@each_loader
@pytest.mark.parametrize(("world", "start"), [(1, 0), (2, 3), (3, 12), (3, 29)])
def test_the_samples_are_those_of_the_order(case: Case, kind: str, world: int, start: int, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case)
    sequence = order.order(3, 5, 31)
    seen, lengths = [], set()
    for rank in range(world):
        loader = loader_of(config, dataset, rank, world)
        assert len(loader) == order.steps(31, 4 * world)
        batches = run(loader, 5, start)
        steps = list(order.share(sequence, rank, world, 4 * world, start))
        assert [batch.count for batch in batches] == [step.count for step in steps]
        for batch, step in zip(batches, steps, strict=True):
            assert batch.labels.tolist() == step.indices.tolist()
            assert batch.weight == step.count * world / step.total
            assert batch.total == step.total
            assert batch.indices.tolist() == step.indices[: step.count].tolist()
            assert batch.images.shape == (len(step.indices), 3, 24, 24)
        seen += [label for batch in batches for label in batch.labels[: batch.count].tolist()]
        lengths.add(len(batches))
    assert sorted(seen) == sorted(sequence[start:].tolist())
    assert len(lengths) == 1


@each_loader
def test_a_start_within_an_epoch_gives_the_rest_of_the_epoch(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case, augment=ALL)
    complete, tail = (run(loader_of(config, dataset), 2, start) for start in (0, 12))
    for first, second in zip(complete[3:], tail, strict=True):
        assert torch.equal(first.labels, second.labels)
        assert torch.equal(first.images, second.images)


@each_loader
def test_every_sample_is_seen_once_when_ranks_are_added_during_an_epoch(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case)
    seen: list[int] = []
    for rank in range(2):
        for batch in run(loader_of(config, dataset, rank, 2), 0)[:2]:
            seen += batch.labels[: batch.count].tolist()
    for rank in range(3):
        for batch in run(loader_of(config, dataset, rank, 3), 0, start=16):
            seen += batch.labels[: batch.count].tolist()
    assert sorted(seen) == list(range(31))


@each_loader
def test_an_abandoned_epoch_does_not_affect_the_next(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case)
    loader = loader_of(config, dataset)
    next(loader.epoch(0))
    assert [label for batch in run(loader, 1) for label in batch.labels.tolist()] == order.order(3, 1, 31).tolist()


@each_loader
def test_evaluation_reads_each_sample_once_in_order_without_augmentation(case: Case, kind: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 31, tmp_path)
    config = config_of(case, augment=ALL, drop_last=True, eval_batch_size=5)
    seen = []
    for rank in range(3):
        batches = run(loader_of(config, dataset, rank, 3, training=False), 0)
        assert len(batches) == 3
        seen += [label for batch in batches for label in batch.labels[: batch.count].tolist()]
    assert sorted(seen) == list(range(31))


@each_loader
def test_drop_last_omits_an_incomplete_step(case: Case, kind: str, tmp_path: Path) -> None:
    batches = run(loader_of(config_of(case, drop_last=True), numbered(kind, 31, tmp_path), 1, 2), 0)
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]


@each_loader
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_images_have_the_configured_precision_and_layout(
    case: Case, kind: str, precision: str, channels_last: bool, tmp_path: Path
) -> None:
    config = config_of(case)
    config = replace(config, compute=ComputeConfig(precision=precision, channels_last=channels_last))
    images = run(loader_of(config, numbered(kind, 8, tmp_path)), 0)[0].images
    assert images.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("kind", ["memory", "files"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("world", [1, 2])
def test_loaders_deliver_the_same_pixels(kind: str, training: bool, world: int, tmp_path: Path) -> None:
    dataset = numbered(kind, 31, tmp_path)
    first = None
    for case in (case for case in LOADERS if case.real and kind in case.kinds):
        config = config_of(case, augment=ALL)
        batches = run(loader_of(config, dataset, world - 1, world, training=training), 4)
        first = first or batches
        for expected, actual in zip(first, batches, strict=True):
            assert torch.equal(expected.labels, actual.labels)
            assert torch.equal(expected.images, actual.images)


def test_augmentation_of_a_sample_does_not_depend_on_its_rank(tmp_path: Path) -> None:
    dataset = numbered("files", 31, tmp_path)
    config = config_of(
        LOADERS[1], augment=AugmentConfig(flip=0.5, random_resized_crop=True, color_jitter=1, rotation=9)
    )
    seen = []
    for world in (1, 3):
        pixels = {}
        for rank in range(world):
            for batch in run(loader_of(config, dataset, rank, world), 6):
                pixels |= dict(zip(batch.labels.tolist(), batch.images, strict=True))
        seen.append(pixels)
    # Batches of another size may use other vector instructions, which may change the last bit of a float.
    assert all(torch.allclose(seen[0][label], seen[1][label], atol=1e-5) for label in range(31))


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "caltech101", "gtsrb", "omniglot"])
def test_all_loaders_give_the_same_labels_for_real_sets(name: str, data_root: Path) -> None:
    seen = []
    kind = "memory" if name in ("digits", "mnist", "cifar10") else "files"
    for case in (case for case in LOADERS if kind in case.kinds):
        config = config_of(case, name=name, root=data_root, limit=60, image_size=32, normalize="none", batch_size=16)
        dataset = load(config.data)
        batches = run(loader_of(config, dataset, 1, 2), 1)
        assert all(batch.images.shape[1:] == (dataset.channels, 32, 32) for batch in batches)
        seen.append([batch.labels.tolist() for batch in batches])
    assert all(labels == seen[0] for labels in seen)


@each_that_reads_files
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "gone"])
def test_a_bad_file_ends_the_run_and_is_named(case: Case, kind: str, damage: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 9, tmp_path)
    damage_file(dataset.train.files[4], damage)
    with pytest.raises(UserError, match=r"004\.jpg.*--data.on-error skip"):
        run(loader_of(config_of(case), dataset), 0)


@each_that_reads_files
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "gone"])
def test_a_bad_file_is_replaced_by_the_next_file_and_listed(case: Case, kind: str, damage: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 9, tmp_path)
    damage_file(dataset.train.files[4], damage)
    damage_file(dataset.train.files[8], "text")
    loader = loader_of(config_of(case, on_error="skip"), dataset)
    for epoch in range(2):
        batches = [(batch.labels.tolist(), batch.indices.tolist()) for batch in loader.epoch(epoch)]
        labels = [label for batch, _ in batches for label in batch]
        assert labels == [index for _, indices in batches for index in indices]
        expected = [{4: 5, 8: 0}.get(index, index) for index in order.order(3, epoch, 9).tolist()]
        assert labels == expected
    loader.close()
    assert len(loader.skipped) == 2
    assert any("004.jpg" in line and "005.jpg is used instead" in line for line in loader.skipped)


@each_that_reads_files
def test_a_set_without_a_readable_file_is_refused(case: Case, kind: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 5, tmp_path)
    for file in dataset.train.files:
        damage_file(file, "text")
    with pytest.raises(UserError, match="5 consecutive files cannot be read"):
        run(loader_of(config_of(case, on_error="skip"), dataset), 0)


def damage_file(file: Path, damage: str) -> None:
    match damage:
        case "truncated":
            file.write_bytes(file.read_bytes()[:400])
        case "text":
            file.write_text("not an image")
        case "empty":
            file.write_bytes(b"")
        case "gone":
            file.unlink()


@each_loader
def test_fewer_samples_than_ranks_are_refused(case: Case, kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 samples for 3 ranks"):
        loader_of(config_of(case), numbered(kind, 2, tmp_path), 0, 3)


@each_loader
def test_drop_last_with_less_than_one_batch_is_refused(case: Case, kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="drop_last"):
        loader_of(config_of(case, drop_last=True), numbered(kind, 7, tmp_path), 0, 2)


@each_loader
def test_labels_out_of_range_are_refused(case: Case, kind: str, tmp_path: Path) -> None:
    dataset = replace(numbered(kind, 9, tmp_path), classes=("a", "b"))
    with pytest.raises(UserError, match="label 2 of sample 2 is out of range"):
        loader_of(config_of(case), dataset)


def test_auto_states_its_reason(tmp_path: Path) -> None:
    def chosen(dataset: DataSet, training: bool = True, **augment: object) -> tuple[str, str]:
        config = Config(data=DataConfig(augment=AugmentConfig(**augment)))
        spec = LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=World(), training=training)
        return choose(spec)

    memory, files = (numbered(kind, 9, tmp_path) for kind in ("memory", "files"))
    assert chosen(memory)[0] == "resident" and "free" in chosen(memory)[1]
    assert chosen(files)[0] == "torch" and "files" in chosen(files)[1]
    huge = ResidentSplit(
        images=np.broadcast_to(np.zeros(1, np.uint8), (10**9, 224, 224, 3)), labels=np.zeros(9, np.int64)
    )
    assert chosen(replace(memory, train=huge))[0] == "torch"
    mebibyte = ResidentSplit(images=np.zeros((4, 512, 512, 1), np.uint8), labels=np.zeros(4, np.int64))
    for training, mib in ((True, 2 * 4), (False, 1)):  # padded from 512 to 1024 pixels, and mirrored copies
        reason = chosen(replace(memory, train=mebibyte), training, crop=256, flip=0.5)[1]
        assert reason.startswith(f"4 images take {mib} MiB of ")
    assert chosen(load(DataConfig(name="synthetic")))[0] == "synthetic"


def test_auto_compares_the_images_with_the_free_memory_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the memory may be used. The ranks of a host share its memory, but each has its own GPU."""
    dataset = numbered("memory", 9, tmp_path)
    size = dataset.train.images.nbytes

    def chosen(world: World) -> tuple[str, str]:
        return choose(LoaderSpec(config=Config(), dataset=dataset, split=dataset.train, world=world, training=False))

    def free(cpu: float, gpu: float) -> None:
        monkeypatch.setattr("distdl.data.loaders._available", lambda: round(cpu * size))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (round(gpu * size), 10**15))

    gpu_of_two, cpu_of_two = World(size=2, local_size=2, device=torch.device("cuda", 1)), World(size=2, local_size=2)
    free(cpu=8, gpu=3)
    assert (chosen(cpu_of_two)[0], chosen(gpu_of_two)[0], chosen(World())[0]) == ("resident", "torch", "resident")
    free(cpu=7, gpu=4)
    assert (chosen(cpu_of_two)[0], chosen(gpu_of_two)[0], chosen(World())[0]) == ("torch", "resident", "resident")


@each_loader
def test_a_global_batch_is_divided_among_the_ranks(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case, batch_size=None, global_batch=10)
    ranks = [run(loader_of(config, dataset, rank, 3), 0) for rank in range(3)]
    assert [[batch.count for batch in batches] for batches in ranks] == [[4, 3, 3, 3], [3, 2, 2, 2], [3, 2, 2, 2]]
    sequence = order.order(3, 0, 31)
    for step, batches in enumerate(zip(*ranks, strict=True)):
        assert np.concatenate([batch.indices for batch in batches]).tolist() == sequence[: batches[0].total].tolist()
        sequence = sequence[batches[0].total :]
        assert sum(batch.weight for batch in batches) == pytest.approx(3), step


def test_ten_crops_apply_to_the_test_split_only(tmp_path: Path) -> None:
    dataset = numbered("files", 9, tmp_path)
    for case in (LOADERS[0], LOADERS[1]):
        config = config_of(case, ten_crop=True)
        for split, shape in ((dataset.test, (7, 10, 3, 24, 24)), (dataset.train, (8, 3, 24, 24))):
            loader = make_loader(config, dataset, split, World(), training=False)
            assert next(loader.epoch(0)).images.shape == shape
            loader.close()


@each_loader
def test_device_time_is_subtracted_from_waiting_time(
    case: Case, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading of the simulated clock takes a second."""
    readings = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(readings)))
    loader = loader_of(config_of(case, augment=ALL), numbered(kind, 31, tmp_path))
    loader.clock = Clock()
    start = time.perf_counter()
    for _ in loader.clock.over("data", loader.epoch(0)):
        pass
    seconds = loader.clock.read()
    assert seconds["data"] >= 0
    assert (seconds["transfer"] > 0) == case.real
    assert seconds["data"] + seconds["transfer"] <= time.perf_counter() - start
    loader.close()
