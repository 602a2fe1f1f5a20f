"""Loader synthetic: noise images with the labels of the data set's samples."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distdl.core.config import ComputeConfig, Config
from distdl.data.loaders import order
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.loaders.synthetic import SyntheticLoader
from distdl.runtime.world import World
from numbered_sets import numbered
from small_loaders import config_of


def loader_of(config: Config, tmp_path: Path, rank: int = 0, world: int = 1) -> SyntheticLoader:
    dataset, place = numbered("files", 10, tmp_path), World(rank=rank, size=world)
    return SyntheticLoader(
        LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=place, training=True), "to measure"
    )


def test_images_are_noise_with_the_labels_of_the_samples(tmp_path: Path) -> None:
    loader = loader_of(config_of("synthetic"), tmp_path)
    batches = list(loader.epoch(2))
    assert [batch.labels.tolist() for batch in batches] == [
        order.order(3, 2, 10)[first : first + 4].tolist() for first in (0, 4, 8)
    ]
    assert [batch.images.shape for batch in batches] == [(4, 3, 24, 24), (4, 3, 24, 24), (2, 3, 24, 24)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert torch.equal(batches[2].images, batches[0].images[:2])
    noise = batches[0].images  # 6,912 values: five standard errors
    assert abs(noise.mean()) < 0.06 and abs(noise.std() - 1) < 0.05


def test_noise_depends_on_the_seed_only(tmp_path: Path) -> None:
    config = config_of("synthetic")
    first, again, other = (
        loader_of(each, tmp_path, rank, 2).images
        for each, rank in ((config, 0), (config, 1), (replace(config, seed=4), 0))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_have_the_configured_precision_and_layout(channels_last: bool, tmp_path: Path) -> None:
    config = replace(config_of("synthetic"), compute=ComputeConfig(precision="bf16", channels_last=channels_last))
    images = next(loader_of(config, tmp_path).epoch(0)).images
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_close_releases_the_batch(tmp_path: Path) -> None:
    loader = loader_of(config_of("synthetic"), tmp_path)
    loader.close()
    assert loader.images.numel() == loader.labels.numel() == 0
    loader.close()
