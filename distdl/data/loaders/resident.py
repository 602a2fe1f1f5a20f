"""Loader `resident`: the whole data set as bytes in the device's memory, where it is also augmented."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from distdl.core.errors import UserError
from distdl.data.augment import random_params as augment
from distdl.data.dataset import Batch, ResidentSplit
from distdl.data.loaders.base import LoaderBase
from distdl.data.loaders.batch_transform import BatchTransform, on_device, transfer
from distdl.data.loaders.order import Step
from distdl.data.loaders.samples import Chunk, Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.cores import cores

FILES_PER_TASK = 64
"""Number of files that a thread decodes at a time."""
GROUP_BYTES = 1 << 20
"""Size of the images of consecutive steps that are transformed together: they stay in a CPU's cache until used."""


class ResidentLoader(LoaderBase):
    """Keeps all images in memory. An epoch copies only its order and random parameters to the device, once.

    Image files are decoded once, when the loader is built.
    """

    name = "resident"

    def __init__(self, spec: LoaderSpec, reason: str) -> None:
        super().__init__(spec, reason)
        images, self.read, self.unreadable = self._read()
        self.any_unreadable = bool(self.unreadable.any())
        self.size = images.shape[1:3]
        settings = spec.config.data.augment
        self.padding = settings.crop if spec.training else 0
        self.images = augment.pad(torch.from_numpy(images).to(spec.world.device), self.padding)
        if spec.training and settings.flip:
            # Mirror images are stored in advance: computing them takes most of a step's time on a CPU.
            self.images = torch.cat([self.images, self.images.flip(2)])
        self.labels = self.labels[torch.from_numpy(self.read)].to(spec.world.device)
        self.transform = BatchTransform(spec)
        # Number of steps transformed together. Stages that combine the samples of a batch process one batch at a time.
        step_bytes = 4 * spec.batch * spec.dataset.channels * spec.size**2
        self.group = max(GROUP_BYTES // step_bytes, 1) if self.transform.is_identity else 1

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""
        spec, device = self.spec, self.spec.world.device
        steps = list(spec.steps(epoch, start))
        if self.any_unreadable:
            steps = list(map(self._unreadable_last, steps))
        if not steps:
            return
        indices = np.concatenate([step.indices for step in steps])
        params = on_device(spec.draw(epoch, indices), device)
        index = torch.from_numpy(indices).to(device)
        labels = self.labels.index_select(0, index)
        index, shift = self._mirrored(index, params.get("shift"), params.get("flip"))
        first = 0
        for group in (steps[i : i + self.group] for i in range(0, len(steps), self.group)):
            sizes = [len(step.indices) for step in group]
            rows = slice(first, first := first + sum(sizes))
            with transfer(self.clock, device):
                images = augment.cut(self.images, index[rows], self.size, None if shift is None else shift[rows], None)
                row_params = {name: values[rows] for name, values in params.items()}
                images, targets = self.transform(images, labels[rows], row_params)
                batches = list(zip(group, images.split(sizes), targets.split(sizes), strict=True))
            for step, images, targets in batches:
                counted = replace(step, count=step.count - self._unreadable_count(step))
                yield spec.deliver(counted, images, targets, self.read[step.indices])

    def _unreadable_last(self, step: Step) -> Step:
        return replace(step, indices=step.indices[np.argsort(self.unreadable[step.indices], kind="stable")])

    def _unreadable_count(self, step: Step) -> int:
        """Return the number of unreadable samples in the step's count; always 0 in training."""
        return int(self.unreadable[step.indices].sum()) if step.count and self.any_unreadable else 0

    def _mirrored(
        self, index: torch.Tensor, shift: torch.Tensor | None, flip: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Move the indices of flipped samples to the second half of the images, and mirror their shift."""
        if flip is None:
            return index, shift
        if shift is not None:
            columns = torch.where(flip, 2 * self.padding - shift[:, 1], shift[:, 1])
            shift = torch.stack([shift[:, 0], columns], 1)
        return index + flip * (len(self.images) // 2), shift

    def close(self) -> None:
        """Release the set's memory."""
        self.images = self.labels = torch.empty(0)

    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images [n, H, W, C] uint8 (files are decoded here), the sample of each [n], and which are unreadable
        [n]."""
        spec, split = self.spec, self.spec.split
        if isinstance(split, ResidentSplit):
            return np.ascontiguousarray(split.images), np.arange(len(split)), np.zeros(len(split), bool)
        if spec.training and spec.config.data.augment.random_resized_crop:
            raise UserError(
                "data.loader resident decodes files once, but random_resized_crop decodes them in each epoch: use torch"
            )
        samples = Samples(spec)
        with ThreadPoolExecutor(cores(spec.world.local_size)) as pool:
            parts = np.array_split(np.arange(len(split)), -(-len(split) // FILES_PER_TASK))
            chunks = list(pool.map(lambda part: samples[0, part], parts))
        sample_of = np.concatenate([self._checked(chunk).indices for chunk in chunks])
        unreadable = np.concatenate([np.arange(len(chunk.indices)) >= chunk.readable for chunk in chunks])
        images = torch.cat([chunk.images for chunk in chunks]).numpy()
        if unreadable.any():  # unreadable samples are the last of their chunk: restore the order of the split
            images[sample_of], unreadable[sample_of] = images.copy(), unreadable.copy()
            sample_of = np.arange(len(split))
        return images, sample_of, unreadable

    def _checked(self, chunk: Chunk) -> Chunk:
        if chunk.error:
            raise UserError(chunk.error)
        self.skipped += chunk.skipped.values()
        return chunk
