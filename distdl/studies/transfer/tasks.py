"""Trials of study `transfer` that are not trainings: description of the data set, ten crops, distances of weights."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distdl.core import checkpoints
from distdl.core.config import Config
from distdl.core.errors import Failure, reading
from distdl.core.manifest import STATE
from distdl.core.paths import inside
from distdl.core.profiles import Recipe, resolve
from distdl.core.run_files import CHECKPOINTS, CONFIG
from distdl.data.dataset import DataSet
from distdl.data.loaders import make_loader
from distdl.data.sets.load import load
from distdl.models import blocks as parts
from distdl.runtime import tensors
from distdl.runtime.device import device_for
from distdl.runtime.world import World
from distdl.studies.features.last_layers import network

PICTURE = "target.png"


def describe(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the target data set by numbers, and draw samples of it into target.png."""
    from distdl.report.sample_grid import draw_dataset

    dataset = load(resolve(Recipe(**table["recipe"]), strategy="single").data)
    draw_dataset(dataset, folder / PICTURE)
    counts = {
        part: np.bincount(split.labels, minlength=len(dataset.classes)).tolist()
        for part in ("train", "validation", "test")
        if (split := getattr(dataset, part)) is not None
    }
    size = {"image_size": dataset.image_size, "channels": dataset.channels}
    return {"name": dataset.name, "classes": dataset.classes, "images": counts, "notes": dataset.notes, **size}


def ten_crop(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Test each run's best network, with outputs averaged over ten crops per image. Returns accuracies by run."""
    by_run = {}
    for name in table["runs"]:
        run = inside(folder.parent, name, folder)
        config = _config(run)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, ten_crop=True))
        dataset = load(config.data, config.options.get("dataset"))
        world = World(device=device_for(config.compute, local_rank=0, local_size=1))
        best = trained(run, config, dataset).to(world.device).eval()
        by_run[name] = _accuracy(best, config, dataset, world)
    return {"accuracy": by_run}


@torch.no_grad()
def _accuracy(best: nn.Module, config: Config, dataset: DataSet, world: World) -> float:
    correct = count = 0
    loader = make_loader(config, dataset, dataset.test, world, training=False)
    for batch in loader.epoch(0):
        outputs = best(batch.images.flatten(0, 1)).unflatten(0, batch.images.shape[:2]).mean(1)
        correct += int((outputs.argmax(1) == batch.labels)[: batch.count].sum())
        count += batch.count
    loader.close()
    return correct / count


def moved(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Count the trained parameters of each run, and compute the distance of each block from its initial weights."""
    by_run = {}
    for name in table["runs"]:
        run = inside(folder.parent, name, folder)
        config = _config(run)
        dataset = load(config.data, config.options.get("dataset"))
        torch.manual_seed(config.seed)
        first = network(config, dataset)
        last = trained(run, config, dataset)
        by_run[name] = {
            "parameters": sum(value.numel() for value in first.parameters() if value.requires_grad),
            "distance": distances(first, last),
        }
    return by_run


def distances(first: nn.Module, last: nn.Module) -> dict[str, float]:
    """Relative distances |after - before| / |before| over the parameters of each block, and of the classifier."""
    split = parts.split(first)
    initial, trained_parameters = dict(first.named_parameters()), dict(last.named_parameters())
    blocks = split.features | {"classifier": [name for names in split.classifier.values() for name in names]}
    return {
        block: _norm([trained_parameters[name] - initial[name] for name in names])
        / _norm([initial[name] for name in names])
        for block, names in blocks.items()
    }


@torch.no_grad()
def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def trained(run: Path, config: Config, dataset: DataSet) -> nn.Module:
    """Load the network of a run's best checkpoint."""
    best = checkpoints.best(run / CHECKPOINTS)
    if best is None:
        raise Failure(f"{run} has no checkpoint that was evaluated")
    last = network(config, dataset)
    state, _ = tensors.load(best)
    weights, _ = tensors.network_state(state, best)
    with reading(best / STATE, f"weights of {config.model.name}"):
        last.load_state_dict(weights)
    return last


def _config(run: Path) -> Config:
    return resolve(Recipe(profile=str(run / CONFIG)), strategy="single")
