"""Loaders of small data sets, and their batches."""

from dataclasses import replace

from distdl.core.config import Config, DataConfig
from distdl.data.dataset import Batch, DataSet
from distdl.data.loaders import make_loader
from distdl.data.loaders.base import Loader
from distdl.runtime.world import World


def config_of(loader: str, workers: int = 0, **data: object) -> Config:
    """A configuration with seed 3 and 4 samples per rank and step."""
    return Config(seed=3, data=DataConfig(**{"loader": loader, "workers": workers, "batch_size": 4, **data}))


def loader_of(config: Config, dataset: DataSet, rank: int = 0, world: int = 1, training: bool = True) -> Loader:
    return make_loader(config, dataset, dataset.train, World(rank=rank, size=world), training=training)


def run(loader: Loader, epoch: int, start: int = 0) -> list[Batch]:
    try:
        return [replace(batch, images=batch.images.clone()) for batch in loader.epoch(epoch, start)]
    finally:
        loader.close()
