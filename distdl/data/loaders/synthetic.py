"""Loader `synthetic`: one batch of noise, again and again, with the labels of the real samples."""

from collections.abc import Iterator

import torch

from distdl.data.dataset import Batch
from distdl.data.loaders.spec import Task
from distdl.runtime.device import REDUCED_PRECISION
from distdl.telemetry.clock import Clock


class SyntheticLoader:
    """Measures everything but the input: no reading, no augmentation, no normalisation."""

    name = "synthetic"

    def __init__(self, task: Task, why: str) -> None:
        self.task, self.why, self.clock = task, why, Clock()
        self.skipped: list[str] = []
        self.stop_asked = lambda: False
        device, compute = task.world.device, task.config.compute
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        shape = (task.batch, task.dataset.channels, task.size, task.size)
        generator = torch.Generator(device).manual_seed(task.config.seed)
        noise = torch.randn(shape, generator=generator, device=device)
        self.images = noise.to(REDUCED_PRECISION.get(compute.precision, torch.float32), memory_format=layout)
        self.labels = torch.from_numpy(task.split.labels).to(device)

    def __len__(self) -> int:
        return len(self.task)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""
        for step in self.task.steps(epoch, start):
            index = torch.from_numpy(step.indices).to(self.labels.device, non_blocking=True)
            images = self.images[: len(index)]
            yield self.task.deliver(step, images, self.labels.index_select(0, index))

    def close(self) -> None:
        """Release the batch's memory."""
        self.images = self.labels = torch.empty(0)
