"""Network, optimizer and loaders of a training, from its configuration."""

import os

import torch
from torch import nn
from torch.optim import Optimizer

from distdl.core.config import Config
from distdl.data.dataset import DataSet
from distdl.data.loaders import make_loader
from distdl.data.loaders.base import Loader
from distdl.data.loaders.spec import LoaderSpec
from distdl.models.build import build
from distdl.models.freezing import check_smallest_piece
from distdl.optim import optimizers
from distdl.runtime import compile_cache
from distdl.runtime.world import World

SPLITS = ("train", "validation", "test")


def network(config: Config, dataset: DataSet, seed: int) -> nn.Module:
    """Build the network on the CPU. `seed` alone determines its initial weights, not earlier random numbers."""
    torch.manual_seed(seed)
    size = config.data.image_size or dataset.image_size
    return build(
        config.model,
        classes=len(dataset.classes),
        channels=dataset.channels,
        image_size=size,
        options=config.options.get("model", {}),
    )


def network_and_optimizer(config: Config, dataset: DataSet, world: World) -> tuple[nn.Module, Optimizer]:
    """The network on the device, compiled if configured, and its optimizer."""
    compute = config.compute
    layout = torch.channels_last if compute.channels_last else torch.preserve_format
    model = network(config, dataset, config.seed).to(world.device).to(memory_format=layout)
    compiled = compute.compile or compute.cuda_graphs
    optimizer = optimizers.build(
        config.optim,
        model,
        global_batch=config.data.step_samples(world.size),
        compiled=compiled,
        options=config.options.get("optimizer", {}),
    )
    if compiled:
        compile_cache.make_private(os.environ)
        model.compile(mode="reduce-overhead" if compute.cuda_graphs else None)
    return model, optimizer


def loaders(config: Config, dataset: DataSet, world: World) -> dict[str, Loader]:
    """A loader for each split that the data set has."""
    return {
        name: make_loader(config, dataset, split, world, training=name == "train")
        for name in SPLITS
        if (split := getattr(dataset, name)) is not None
    }


def samples_by_split(dataset: DataSet) -> dict[str, int]:
    """Number of samples of each split that the data set has."""
    return {name: len(split) for name in SPLITS if (split := getattr(dataset, name)) is not None}


def training_spec(config: Config, dataset: DataSet, world: World) -> LoaderSpec:
    """Division of the training split over ranks and steps."""
    return LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=world, training=True)


def check_batches(config: Config, dataset: DataSet, world: World, model: nn.Module, start: int) -> None:
    """Refuse batches that are too small for the network's BatchNorm.

    Args:
        start: number of samples of the current epoch that have been trained already.
    Raises:
        UserError: if a rank would get too few samples in a step.
    """
    size = config.data.image_size or dataset.image_size
    smallest = training_spec(config, dataset, world).smallest_piece(start)
    check_smallest_piece(model, (dataset.channels, size, size), smallest)
