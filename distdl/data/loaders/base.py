"""The protocol of loaders, and their base classes: `LoaderBase`, and `ChunkLoader` for samples read in chunks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import torch

from distdl.data.dataset import Batch
from distdl.data.loaders.batch_transform import BatchTransform, cut_bytes, on_device, single_threaded, transfer
from distdl.data.loaders.order import Step
from distdl.data.loaders.samples import Chunk
from distdl.data.loaders.spec import LoaderSpec
from distdl.telemetry.clock import Clock


class Loader(Protocol):
    """Delivers exactly the samples of `distdl.data.loaders.order`, in that order, for any way of reading them.

    A loader keeps no position: `epoch` can start anywhere, so a checkpoint needs no state of the loader.
    """

    name: str
    """Name in the registry: resident, torch, dali, synthetic, or that of another package."""
    spec: LoaderSpec
    """Samples that it reads, and their changes."""
    reason: str
    """Reason why this loader was selected."""
    clock: Clock
    """Measures the phase "transfer": copies to the device and augmentation on it. The trainer sets its own clock."""
    stop_requested: Callable[[], bool]
    """Whether the run was requested to stop: waiting for data then times out sooner."""
    skipped: list[str]
    """With data.on_error = skip, one sentence for each file of this rank that could not be read."""

    def __len__(self) -> int:
        """Return the number of steps in a full epoch, the same on every rank."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""
        ...

    def close(self) -> None:
        """End worker processes and release the device's memory."""
        ...


class LoaderBase:
    """Attributes of the protocol `Loader`; a subclass adds `name`, `epoch` and `close`."""

    def __init__(self, spec: LoaderSpec, reason: str) -> None:
        self.spec, self.reason, self.clock = spec, reason, Clock()
        self.skipped: list[str] = []
        self.stop_requested: Callable[[], bool] = lambda: False
        self.labels = torch.from_numpy(spec.split.labels)

    def __len__(self) -> int:
        return len(self.spec)


class ChunkLoader(LoaderBase):
    """Base of loaders whose chunks are read by processes or threads and augmented on the device."""

    def __init__(self, spec: LoaderSpec, reason: str) -> None:
        super().__init__(spec, reason)
        self.transform = BatchTransform(spec)
        self._known_unreadable: set[int] = set()

    def batch(self, step: Step, chunk: Chunk, images: torch.Tensor) -> Batch:
        """Build the batch of a step.

        Args:
            images: images of the chunk, [b, H, W, C] uint8.
        """
        for index in chunk.skipped.keys() - self._known_unreadable:
            self._known_unreadable.add(index)
            self.skipped.append(chunk.skipped[index])
        counted = replace(step, count=min(step.count, chunk.readable))
        device = self.spec.world.device
        with transfer(self.clock, device), single_threaded(device):
            labels = self.labels[torch.from_numpy(chunk.indices)].to(device, non_blocking=True)
            images, labels = self._transformed(images, labels, chunk)
        return self.spec.deliver(counted, images, labels, chunk.indices)

    def _transformed(
        self, images: torch.Tensor, labels: torch.Tensor, chunk: Chunk
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.spec.world.device
        params = on_device(chunk.params, device)
        images = cut_bytes(images.to(device, non_blocking=True), params, self.spec.config.data.augment.crop)
        return self.transform(images, labels, params)
