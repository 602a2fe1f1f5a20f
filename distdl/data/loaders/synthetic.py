"""Loader `synthetic`: the same batch of noise in every step, with the labels of the real samples."""

from collections.abc import Iterator

import torch

from distdl.data.dataset import Batch
from distdl.data.loaders.base import LoaderBase
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.device import REDUCED_PRECISION


class SyntheticLoader(LoaderBase):
    """Delivers data without reading, augmentation or normalization, to measure a training without its input."""

    name = "synthetic"

    def __init__(self, spec: LoaderSpec, reason: str) -> None:
        super().__init__(spec, reason)
        device, compute = spec.world.device, spec.config.compute
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        shape = (spec.batch, spec.dataset.channels, spec.size, spec.size)
        generator = torch.Generator(device).manual_seed(spec.config.seed)
        noise = torch.randn(shape, generator=generator, device=device)
        self.images = noise.to(REDUCED_PRECISION.get(compute.precision, torch.float32), memory_format=layout)
        self.labels = self.labels.to(device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""
        for step in self.spec.steps(epoch, start):
            index = torch.from_numpy(step.indices).to(self.labels.device, non_blocking=True)
            images = self.images[: len(index)]
            yield self.spec.deliver(step, images, self.labels.index_select(0, index))

    def close(self) -> None:
        """Release the batch's memory."""
        self.images = self.labels = torch.empty(0)
