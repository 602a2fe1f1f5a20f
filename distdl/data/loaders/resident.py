"""Loader `resident`: the whole set as bytes on the device, where it is also augmented."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from distdl.core.errors import UserError
from distdl.data.augment import random_params as augment
from distdl.data.dataset import Batch, ResidentSplit
from distdl.data.loaders.batch_transform import Finish, transfer
from distdl.data.loaders.order import Step
from distdl.data.loaders.samples import Chunk, Samples
from distdl.data.loaders.spec import Task
from distdl.runtime.cores import cores
from distdl.telemetry.clock import Clock

PART = 64
"""Files that one task of a thread decodes."""
AHEAD_BYTES = 1 << 20
"""Of images that are made ready at once: as much as stays in a processor's cache until the last is used."""


class ResidentLoader:
    """Nothing is read, decoded or sent in an epoch: its order and its draws go to the device once, at its start.

    Image files are decoded once, when the loader is made.
    """

    name = "resident"

    def __init__(self, task: Task, why: str) -> None:
        self.task, self.why, self.clock = task, why, Clock()
        self.skipped: list[str] = []
        self.stop_asked = lambda: False
        images, self.read, self.unreadable = self._read()
        self.any_unreadable = bool(self.unreadable.any())
        self.size = images.shape[1:3]
        settings = task.config.data.augment
        self.padding = settings.crop if task.training else 0
        self.images = augment.pad(torch.from_numpy(images).to(task.world.device), self.padding)
        if task.training and settings.flip:
            # Mirror images take memory once; made in each step they would take most of its time on a CPU.
            self.images = torch.cat([self.images, self.images.flip(2)])
        self.labels = torch.from_numpy(task.split.labels[self.read]).to(task.world.device)
        self.finish = Finish(task)
        # Steps made ready at once. What mixes the samples of a batch, or sums over one, must see that batch alone.
        step_bytes = 4 * task.batch * task.dataset.channels * task.size**2
        self.at_once = max(AHEAD_BYTES // step_bytes, 1) if self.finish.plain else 1

    def __len__(self) -> int:
        return len(self.task)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, after the first `start` samples (counted over all ranks)."""
        task, device = self.task, self.task.world.device
        steps = list(task.steps(epoch, start))
        if self.any_unreadable:
            steps = list(map(self._unreadable_last, steps))
        if not steps:
            return
        indices = np.concatenate([step.indices for step in steps])
        drawn = {name: torch.from_numpy(values).to(device) for name, values in task.draw(epoch, indices).items()}
        index = torch.from_numpy(indices).to(device)
        labels = self.labels.index_select(0, index)
        index, shift = self._in_the_mirror(index, drawn.get("shift"), drawn.get("flip"))
        first = 0
        for few in (steps[i : i + self.at_once] for i in range(0, len(steps), self.at_once)):
            sizes = [len(step.indices) for step in few]
            here = slice(first, first := first + sum(sizes))
            with transfer(self.clock, device):
                images = augment.cut(self.images, index[here], self.size, None if shift is None else shift[here], None)
                mine = {name: values[here] for name, values in drawn.items()}
                finished = self.finish(images, labels[here], mine)
                batches = list(zip(*(values.split(sizes) for values in finished), few, strict=True))
            for *batch, step in batches:
                counted = replace(step, count=step.count - self._left_out(step))
                yield task.deliver(counted, *batch, self.read[step.indices])

    def _unreadable_last(self, step: Step) -> Step:
        return replace(step, indices=step.indices[np.argsort(self.unreadable[step.indices], kind="stable")])

    def _left_out(self, step: Step) -> int:
        """Samples of the step's count that are unreadable: in training none."""
        return int(self.unreadable[step.indices].sum()) if step.count and self.any_unreadable else 0

    def _in_the_mirror(
        self, index: torch.Tensor, shift: torch.Tensor | None, flip: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Where flipped samples lie: in the second half of the images, as far from the right as from the left."""
        if flip is None:
            return index, shift
        if shift is not None:
            left = torch.where(flip, 2 * self.padding - shift[:, 1], shift[:, 1])
            shift = torch.stack([shift[:, 0], left], 1)
        return index + flip * (len(self.images) // 2), shift

    def close(self) -> None:
        """Release the set's memory."""
        self.images = self.labels = torch.empty(0)

    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images [n, H, W, C] uint8, files decoded now; the sample behind each [n]; which are unreadable [n]."""
        task, split = self.task, self.task.split
        if isinstance(split, ResidentSplit):
            return np.ascontiguousarray(split.images), np.arange(len(split)), np.zeros(len(split), bool)
        if task.training and task.config.data.augment.random_resized_crop:
            raise UserError(
                "data.loader resident keeps files decoded, and random_resized_crop cuts them anew: take torch"
            )
        samples = Samples(task)
        with ThreadPoolExecutor(cores(task.world.local_size)) as pool:
            parts = np.array_split(np.arange(len(split)), -(-len(split) // PART))
            chunks = list(pool.map(lambda part: samples[0, part], parts))
        taken = np.concatenate([self._checked(chunk).indices for chunk in chunks])
        unreadable = np.concatenate([np.arange(len(chunk.indices)) >= chunk.count for chunk in chunks])
        images = torch.cat([chunk.images for chunk in chunks]).numpy()
        if unreadable.any():  # they are the last of their chunk: back into the split's order
            images[taken], unreadable[taken] = images.copy(), unreadable.copy()
            taken = np.arange(len(split))
        return images, taken, unreadable

    def _checked(self, chunk: Chunk) -> Chunk:
        if chunk.error:
            raise UserError(chunk.error)
        self.skipped += chunk.skipped.values()
        return chunk
