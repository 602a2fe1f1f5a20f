"""What passes between the data and the trainer: a set of samples, a batch, a loader."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch

from distdl.data.files import File, take
from distdl.telemetry.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Split:
    """Some samples of a data set: either images in memory or the files that hold them.

    Exactly one of `images` and `files` is given. Labels are those of `DataSet.classes`.
    """

    labels: np.ndarray
    """[n] int64; or [n, k], where a sample has up to k labels that share its target evenly, -1 for none."""
    images: np.ndarray | None = None
    """[n, H, W, C] uint8: sets small enough to be resident."""
    files: Sequence[File] | None = None
    """[n] encoded images of any size, each a file or a part of one."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> "Split":
        """The samples at `indices`, a split of their own."""
        return Split(
            labels=self.labels[indices],
            images=None if self.images is None else self.images[indices],
            files=None if self.files is None else take(self.files, indices),
        )


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A data set as it was read, before it is divided and normalised."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    validation: Split | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set as it lies on disk, divided: what to learn from, what to choose by, and what to report."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    image_size: int = 224
    """Height and width that the network sees unless told otherwise."""
    channels: int = 3
    central: float = 1.0
    """Share of an image file's short side that is seen, in the middle, where no window is drawn: the square's side."""
    mean: tuple[float, ...] = (0.5,)
    """What pixels are normalised with, by channel, in 0 to 1: the training set's own unless told otherwise."""
    std: tuple[float, ...] = (0.5,)
    notes: tuple[str, ...] = field(default=())
    """What was left out or found odd, each a sentence."""


class Batch(NamedTuple):
    """One rank's share of one step, on its device.

    A rank without a sample in a step gets one that counts for nothing, so that all ranks take the same number of steps;
    `weight` puts the average over ranks right where their counts differ. In training this happens only where the batch
    is too small to divide (`distdl.data.loaders.order.sizes`), and is refused for networks with BatchNorm.
    """

    images: torch.Tensor
    """[b, C, H, W] in the run's precision, normalised; [b, 10, C, H, W] where each image comes as its ten crops."""
    labels: torch.Tensor
    """[b] int64, or [b, classes] float where samples are mixed or have several labels."""
    count: int
    """Samples that count: the first `count` of the b. In evaluation, unreadable samples come after them."""
    weight: float
    """count x world size / total: 1 where all ranks have the same number of samples."""
    total: int
    """Samples that count over all ranks in this step."""
    indices: np.ndarray
    """[count] int64 positions in the split of the samples that count, as read: others where files were skipped."""


class Loader(Protocol):
    """Delivers the samples of `distdl.data.loaders.order`, and no others, in its order, whatever reads them.

    It keeps no position: `epoch` starts anywhere, so a loader needs no state of its own in a checkpoint.
    """

    name: str
    """resident, torch, dali or synthetic."""
    why: str
    """Why `auto` chose it, or that it was asked for."""
    clock: Clock
    """Takes the time of phase "transfer" (to the device, and augmentation on it); its own until it is given another."""
    stop_asked: Callable[[], bool]
    """Whether the run was asked to stop: a wait for data then ends soon."""
    skipped: list[str]
    """With data.on_error skip: a sentence for each file of this rank that could not be read, once a file."""

    def __len__(self) -> int:
        """Steps of a whole epoch, the same on every rank."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""

    def close(self) -> None:
        """End worker processes and release the device's memory."""
