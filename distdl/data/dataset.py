"""Data sets and batches: the interface between data, training and studies."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from distdl.data.files import Files, take

if TYPE_CHECKING:
    import torch  # not imported by commands that only read data sets: it takes seconds


@dataclass(frozen=True, kw_only=True)
class ResidentSplit:
    """Samples whose decoded images are in memory."""

    labels: np.ndarray
    """[n] int64, indices into `DataSet.classes`; or [n, k] for up to k labels per sample with equal weight, where -1
    means no label."""
    images: np.ndarray
    """[n, H, W, C] uint8."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> "ResidentSplit":
        """Select the samples at `indices` [m], as a split."""
        return ResidentSplit(labels=self.labels[indices], images=self.images[indices])


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """Samples whose images are encoded files."""

    labels: np.ndarray
    """See `ResidentSplit.labels`."""
    files: Files
    """[n] encoded images of any size, each a file or a part of a file."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> "EncodedSplit":
        """Select the samples at `indices` [m], as a split."""
        return EncodedSplit(labels=self.labels[indices], files=take(self.files, indices))


Split = ResidentSplit | EncodedSplit
"""Samples of a data set."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A data set as it was read, before it is split and its normalization is known."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    validation: Split | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set, split into training, validation and test samples."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    image_size: int = 224
    """Default height and width of the network's input, in pixels."""
    channels: int = 3
    central: float = 1.0
    """Side of the central square that is read from an image file without random crops, relative to its short side."""
    mean: tuple[float, ...] = (0.5,)
    """Mean per channel for normalization, in 0 to 1: by default that of the training set."""
    std: tuple[float, ...] = (0.5,)
    """Standard deviation per channel for normalization, in 0 to 1."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for the user about files that were left out and about suspicious contents."""


@dataclass(frozen=True)
class Batch:
    """One rank's part of the global batch of a step, on its device.

    A rank that has no sample in a step gets a padding sample and count 0, so that all ranks run the same number of
    steps. `weight` corrects the average over ranks if their counts differ. In training this happens only if the batch
    is too small to divide (`distdl.data.loaders.order.sizes`), and is refused for networks with BatchNorm.
    """

    images: "torch.Tensor"
    """[b, C, H, W] in the run's precision, normalized; [b, 10, C, H, W] with ten crops per image."""
    labels: "torch.Tensor"
    """[b] int64, or [b, classes] float if samples are mixed or have several labels."""
    count: int
    """Number of samples that count: the first `count` of the b. In evaluation, unreadable samples come after them."""
    weight: float
    """Weight of the rank in the average over ranks, count x world size / total: 1 if all have the same count."""
    total: int
    """Samples that count over all ranks in this step."""
    indices: np.ndarray
    """[count] int64 indices in the split of the samples that were read; they differ from the epoch's order if files
    were skipped."""
