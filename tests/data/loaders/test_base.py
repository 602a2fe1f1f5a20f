"""The `Loader` protocol, and batches made from chunks."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core import factories, registry
from distdl.core.config import Config, DataConfig
from distdl.data.dataset import Batch
from distdl.data.loaders.base import ChunkLoader, Loader, LoaderBase
from distdl.data.loaders.order import Step
from distdl.data.loaders.samples import Chunk
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from distdl.telemetry.clock import Clock
from numbered_sets import numbered


def spec_of(tmp_path: Path, kind: str = "files", rank: int = 0, world: int = 1, training: bool = True) -> LoaderSpec:
    config, dataset = Config(data=DataConfig(batch_size=4)), numbered(kind, 9, tmp_path)
    place = World(rank=rank, size=world)
    return LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=place, training=training)


@pytest.mark.parametrize("name", registry.rows("loaders"))
def test_every_loader_has_the_attributes_of_the_protocol(name: str, tmp_path: Path) -> None:
    if package := registry.find("loaders", name).requires:
        pytest.importorskip(package)
    spec = spec_of(tmp_path)
    loader = factories.make("loaders", name, spec, "a reason")
    try:
        for attribute in inspect.get_annotations(Loader):
            assert hasattr(loader, attribute), attribute
        assert loader.spec is spec and (loader.name, loader.reason) == (name, "a reason")
        assert loader.skipped == [] and loader.stop_requested() is False and isinstance(loader.clock, Clock)
        assert len(loader) == len(spec) == 3
        signature = inspect.signature(loader.epoch)
        assert list(signature.parameters) == ["epoch", "start"] and signature.parameters["start"].default == 0
    finally:
        loader.close()


def test_two_loaders_share_no_state(tmp_path: Path) -> None:
    first, second = (LoaderBase(spec_of(tmp_path), "") for _ in range(2))
    first.skipped.append("a file")
    assert second.skipped == [] and first.clock is not second.clock


def chunk_of(indices: list[int], readable: int, skipped: dict[int, str] | None = None) -> Chunk:
    images = torch.arange(len(indices), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 24, 24, 3).contiguous()
    return Chunk(images, np.array(indices), {}, skipped or {}, readable, "")


def batch_of(loader: ChunkLoader, chunk: Chunk, count: int, total: int) -> Batch:
    return loader.batch(Step(chunk.indices, count, total, 0), chunk, chunk.images)


def test_labels_are_those_of_the_samples_that_were_read(tmp_path: Path) -> None:
    """In training an unreadable sample is replaced by the next one, and the label must be that one's."""
    loader = ChunkLoader(spec_of(tmp_path), "")
    chunk = chunk_of([5, 7, 1], readable=3)
    batch = loader.batch(Step(np.array([4, 7, 1]), 3, 6, 0), chunk, chunk.images)
    assert batch.labels.tolist() == batch.indices.tolist() == [5, 7, 1]
    # (value / 255 - mean 0.5) / std 0.25
    assert torch.allclose(batch.images[:, 0, 0, 0], (torch.arange(3) / 255 - 0.5) / 0.25)
    assert batch.images.shape == (3, 3, 24, 24)


@pytest.mark.parametrize(("count", "readable", "expected"), [(3, 3, 3), (3, 2, 2), (1, 3, 1), (3, 0, 0), (0, 1, 0)])
def test_unreadable_samples_do_not_count(count: int, readable: int, expected: int, tmp_path: Path) -> None:
    loader = ChunkLoader(spec_of(tmp_path, world=2, training=False), "")
    batch = batch_of(loader, chunk_of([0, 1, 2], readable), count, total=6)
    assert (batch.count, batch.weight, batch.total) == (expected, expected * 2 / 6, 6)
    assert batch.indices.tolist() == list(range(expected)) and len(batch.images) == 3


def test_an_unreadable_file_is_listed_once(tmp_path: Path) -> None:
    loader = ChunkLoader(spec_of(tmp_path), "")
    for skipped in ({3: "c is empty"}, {3: "c is empty", 1: "a is empty"}, {1: "a is empty"}):
        batch_of(loader, chunk_of([0, 2], 2, skipped), 2, 2)
    assert loader.skipped == ["c is empty", "a is empty"]
