"""One component of each kind that distdl accepts from other packages. docs/extend.md shows the same code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distdl.core.registry import Row
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.loaders.resident import ResidentLoader
from distdl.launchers.job import Command, Job
from distdl.strategies.single import Single


def tiny(*, classes: int, channels: int, image_size: int, width: int = 8) -> nn.Module:
    """A model: from images [b, channels, image_size, image_size] to logits [b, classes]."""
    hidden = nn.Linear(channels * image_size**2, width)
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(width, classes))


def stripes(*, count: int = 240) -> DataSet:
    """A data set in memory: horizontal and vertical stripes in noise."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 2
    stripe = np.stack(np.mgrid[:8, :8] % 2)[labels][..., None].astype(np.uint8)
    images = rng.integers(0, 100, (count, 8, 8, 1), dtype=np.uint8) + 150 * stripe
    split, rows = ResidentSplit(labels=labels, images=images), np.arange(count)
    train, test = split[rows[: -count // 4]], split[rows[-count // 4 :]]
    classes = ("horizontal", "vertical")
    return DataSet(name="stripes", classes=classes, train=train, test=test, image_size=8, channels=1)


def focal(logits: torch.Tensor, labels: torch.Tensor, *, gamma: float = 2.0) -> torch.Tensor:
    """A loss: one value per sample."""
    loss = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-loss)) ** gamma * loss


class Confidence:
    """A metric: mean probability of the predicted class. distdl adds `sums` over ranks."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2)

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.sums[0] += logits.softmax(1).amax(1).sum()
        self.sums[1] += len(labels)

    def compute(self) -> float:
        return float(self.sums[0] / self.sums[1])


class Alone(Single):
    """A strategy: here one process, under another name."""

    name = "alone"


class WholeSet(ResidentLoader):
    """A loader: here the resident one, under another name."""

    name = "whole-set"


class Sign(torch.optim.Optimizer):
    """An optimizer: the sign of the gradient, with momentum."""

    def __init__(self, params: Any, *, momentum: float = 0.0, floor: float = 0.0) -> None:
        super().__init__(params, {"lr": 0.1, "momentum": momentum, "floor": floor})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in filter(lambda each: each.grad is not None, group["params"]):
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.mul_(group["momentum"]).add_(parameter.grad)
                parameter.add_(average.sign() * (average.abs() > group["floor"]), alpha=-group["lr"])


SIGN = Row(factory="my_components:Sign", summary="sign of the gradient", uses=("optim.momentum",))
"""A row instead of a factory: this optimizer reads distdl's field optim.momentum."""


def halved(epoch: float, progress: float, *, every: int) -> float:
    """A schedule: halve the learning rate after every `every` epochs. `progress` grows from 0 to 1 during the run."""
    return 0.5 ** (epoch // every)


class Shade:
    """An augmentation: darken an image, by one random number per sample, [b, 1]."""

    def __init__(self, *, strength: float = 0.5) -> None:
        self.strength = strength

    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return images * (1 - self.strength * numbers[:, 0]).view(-1, 1, 1, 1)


class Lines:
    """A tracker: one JSON line per call in RUN/lines.jsonl."""

    def __init__(self, run: Path, *, note: str = "") -> None:
        self._file = (run / "lines.jsonl").open("a", encoding="utf-8")
        self._write(note=note)

    def _write(self, **row: Any) -> None:
        self._file.write(json.dumps(row, default=str) + "\n")

    def log_config(self, config: Mapping[str, Any]) -> None:
        self._write(config=config["name"])

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._write(step=step, **values)

    def log_result(self, result: Mapping[str, Any]) -> None:
        self._write(status=result["status"])

    def close(self, status: str) -> None:
        self._write(closed=status)
        self._file.close()


def plain(job: Job) -> list[Command]:
    """A launcher: here one process without any launcher."""
    return [Command(argv=job.python)]
