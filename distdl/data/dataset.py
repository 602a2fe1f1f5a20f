"""Data sets, batches and the protocol of loaders: what data, training and studies pass to each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from distdl.data.files import Files, take
from distdl.telemetry.clock import Clock


@dataclass(frozen=True, kw_only=True)
class ResidentSplit:
    """Samples whose images are in memory."""

    labels: np.ndarray
    """[n] int64, positions in `DataSet.classes`; or [n, k] for up to k labels per sample with equal weight, -1 for
    none."""
    images: np.ndarray
    """[n, H, W, C] uint8."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> "ResidentSplit":
        """Samples at `indices`, as a split."""
        return ResidentSplit(labels=self.labels[indices], images=self.images[indices])


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """Samples whose images are encoded, in files."""

    labels: np.ndarray
    """See `ResidentSplit.labels`."""
    files: Files
    """[n] encoded images of any size, each a file or a part of a file."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> "EncodedSplit":
        """Samples at `indices`, as a split."""
        return EncodedSplit(labels=self.labels[indices], files=take(self.files, indices))


Split = ResidentSplit | EncodedSplit
"""Samples of a data set."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A data set as it was read, before it is divided and normalized."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    validation: Split | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set, divided into samples to train on, to select by and to report."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    image_size: int = 224
    """Default height and width of the network's input, in pixels."""
    channels: int = 3
    central: float = 1.0
    """Side of the central square of an image file that is read without random crops, as a share of its short side."""
    mean: tuple[float, ...] = (0.5,)
    """Mean per channel for normalization, in 0 to 1: by default that of the training set."""
    std: tuple[float, ...] = (0.5,)
    notes: tuple[str, ...] = field(default=())
    """Sentences about what was left out or looks wrong."""


@dataclass(frozen=True)
class Batch:
    """One rank's share of one step, on its device.

    A rank without a sample in a step gets one with count 0, so that all ranks take the same number of steps; `weight`
    corrects the average over ranks if their counts differ. In training this happens only if the batch is too small to
    divide (`distdl.data.loaders.order.sizes`), and is refused for networks with BatchNorm.
    """

    images: torch.Tensor
    """[b, C, H, W] in the run's precision, normalized; [b, 10, C, H, W] with ten crops per image."""
    labels: torch.Tensor
    """[b] int64, or [b, classes] float if samples are mixed or have several labels."""
    count: int
    """Number of samples that count: the first ones of the b. In evaluation, unreadable samples come after them."""
    weight: float
    """count x world size / total: 1 if all ranks have the same number of samples."""
    total: int
    """Samples that count over all ranks in this step."""
    indices: np.ndarray
    """[count] int64 positions in the split of the samples that were read; others than drawn if files were skipped."""


class Loader(Protocol):
    """Delivers exactly the samples of `distdl.data.loaders.order`, in its order, however they are read.

    It keeps no position: `epoch` starts anywhere, so a loader needs no state of its own in a checkpoint.
    """

    name: str
    """Name in the registry: resident, torch, dali, synthetic, or that of another package."""
    why: str
    """Reason why this loader was selected."""
    clock: Clock
    """Measures phase "transfer" (to the device, and augmentation on it); its own until another one is set."""
    stop_asked: Callable[[], bool]
    """Whether a stop of the run was requested: a wait for data then ends soon."""
    skipped: list[str]
    """With data.on_error skip: one sentence for each file of this rank that could not be read."""

    def __len__(self) -> int:
        """Steps of a whole epoch, the same on every rank."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""
        ...

    def close(self) -> None:
        """End worker processes and release the device's memory."""
        ...
