"""Components that a user could write with one error each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.loaders.resident import ResidentLoader
from distdl.strategies.base import Strategy

THING = 3


def float_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return 0.5


class LossClass(nn.Module):
    """A class instead of a function: a call constructs it with logits and labels."""

    def __init__(self, weight: object = None, ignored: object = None) -> None:
        super().__init__()


def matrix_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits**2


def integer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return labels


def detached_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.detach().mean()


@torch.no_grad()
def no_grad_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.mean()


def raising_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    raise ValueError("no such\nlabel")


def short_loss(logits: torch.Tensor) -> torch.Tensor:
    return logits.mean()


def text_model(classes: int) -> str:
    return "a network"


class PairInTraining(nn.Linear):
    """A network with an auxiliary output in training only."""

    def __init__(self, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(channels * image_size**2, classes)

    def forward(self, input: torch.Tensor) -> Any:
        logits = super().forward(input.flatten(1))
        return (logits, logits) if self.training else logits


class DetachedModel(nn.Linear):
    """A network whose output does not depend on its parameters for autograd."""

    def __init__(self, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(channels * image_size**2, classes)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.flatten(1)).detach()


def text_schedule(epoch: float, done: float) -> str:
    return "0.1"


def ending_schedule(epoch: float, done: float) -> float | None:
    return 1.0 if done < 0.5 else None


def nan_schedule(epoch: float, done: float) -> float:
    return float("nan")


class NumberMetric:
    """A metric whose sums are a number."""

    def __init__(self) -> None:
        self.sums: Any = 0.0

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.sums += len(labels)

    def compute(self) -> Any:
        return float(self.sums)


class TextMetric(NumberMetric):
    def __init__(self) -> None:
        self.sums = torch.zeros(2)

    def compute(self) -> Any:
        return "0.5"


class RaisingMetric(TextMetric):
    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        raise IndexError("no such class")


class NoMetric:
    """A metric without methods."""


def no_optimizer(groups: object) -> None:
    return None


def optimizer_class(groups: object) -> type:
    return torch.optim.SGD


def text_strategy(config: object) -> str:
    return "ddp"


class EmptyStrategy(Strategy):
    """A strategy that defines nothing."""

    name = "empty"


class NamelessStrategy(Strategy):
    """A strategy without a name."""


def no_loader(spec: object, why: str) -> object:
    return object()


class TextLoader(ResidentLoader):
    """A loader that yields strings instead of batches."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        yield from "abc"


def no_augmentation() -> None:
    return None


def smaller_augmentation() -> Any:
    return lambda images, numbers: images[:, :, ::2]


def double_augmentation() -> Any:
    return lambda images, numbers: images.double()


def raising_augmentation() -> Any:
    return lambda images: images


class NoTracker:
    """A tracker without methods."""

    def __init__(self, run: Path) -> None:
        pass


def object_tracker(run: Path) -> object:
    return object()


def text_launcher(job: object) -> str:
    return "python"


def empty_launcher(job: object) -> list[object]:
    return []


def texts_launcher(job: object) -> list[str]:
    return ["python", "-m", "distdl.train"]


def no_data_set() -> dict[str, object]:
    return {}


def small_set(**changes: Any) -> DataSet:
    """A data set of two classes, with `changes` of its fields."""
    split = ResidentSplit(labels=np.arange(8) % 2, images=np.zeros((8, 4, 4, 1), np.uint8))
    values: dict[str, Any] = {"name": "two", "classes": ("a", "b"), "train": split, "test": split}
    return DataSet(**{**values, "image_size": 4, "channels": 1, **changes})


def set_without_train() -> DataSet:
    return small_set(train=None)
