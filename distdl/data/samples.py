"""Samples by their indices, as bytes of one size: what worker processes and threads do for a loader."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from distdl.data import decode
from distdl.data.draws import uniform
from distdl.data.encoded import File, Unreadable, compact
from distdl.data.task import Task
from distdl.data.windows import DRAWS, central_window, random_windows
from distdl.errors import UserError

NEIGHBOURS = 100
"""Unreadable files in a row after which a set is taken for broken."""


class Chunk(NamedTuple):
    """Some samples, read."""

    images: Any
    """[b, H, W, C] uint8, or the number of the slot that they lie in; of `Samples.gather`, [b] of what was made."""
    indices: np.ndarray
    """[b] int64: what was read, which differs from what was asked for where a file was skipped."""
    drawn: dict[str, np.ndarray]
    """Parameters of the augmentation that is still to come, for the samples asked for."""
    skipped: dict[int, str]
    """By index: what was wrong with the file, and what was taken in its place."""
    error: str
    """What ends the run; empty while all is well. Carried as a value, for an exception would cross the process
    boundary as a traceback, and a person is to see one line."""


class Samples(torch.utils.data.Dataset):
    """A task's samples: `samples[epoch, indices]` is a Chunk; `samples[epoch, indices, slot]` lies in `slots[slot]`.

    Args:
        slots: [n, batch, size, size, C] uint8, shared by processes. Memory that is shared anew for each batch has to be
            zeroed by the kernel and mapped, page by page, on both sides: a fifth of the time that decoding takes.
    """

    def __init__(self, task: Task, slots: torch.Tensor | None = None) -> None:
        self.task, self.slots, self.images = task, slots, task.split.images
        self.files = None if task.split.files is None else compact(task.split.files)
        self.skip = task.config.data.on_error == "skip"
        self.random = task.training and task.config.data.augment.random_resized_crop

    def __getitem__(self, request: tuple[int, np.ndarray] | tuple[int, np.ndarray, int]) -> Chunk:
        epoch, indices, *slot = request
        if self.images is not None:
            return Chunk(torch.from_numpy(self.images[indices]), indices, self.task.draw(epoch, indices), {}, "")
        size, channels = self.task.read_size, self.task.dataset.channels
        if slot:
            images = self.slots[slot[0], : len(indices)]
        else:
            images = torch.empty(len(indices), size, size, channels, dtype=torch.uint8)
            if torch.utils.data.get_worker_info():
                images.share_memory_()  # filled where the other process will read it: no copy
        places = iter(images)

        def load(file: File, window: decode.WindowOf) -> None:
            image = decode.load(file, channels, window, size)
            next(places).copy_(image)

        return self.gather(epoch, indices, load)._replace(images=slot[0] if slot else images)

    def gather(self, epoch: int, indices: np.ndarray, load: Callable[[File, decode.WindowOf], Any]) -> Chunk:
        """What `load(file, window)` makes of the samples at `indices` [n], unreadable ones replaced if they may be."""
        made, taken, skipped, error = [], indices.copy(), {}, ""
        try:
            for place, (index, window) in enumerate(zip(indices, self._windows(epoch, indices), strict=True)):
                one, taken[place] = self._load(int(index), lambda file, window=window: load(file, window), skipped)
                made.append(one)
        except UserError as raised:
            error = str(raised)
        return Chunk(made, taken, self.task.draw(epoch, indices), skipped, error)

    def _windows(self, epoch: int, indices: np.ndarray) -> list[decode.WindowOf]:
        if not self.random:
            return [partial(central_window, share=self.task.central)] * len(indices)
        return random_windows(uniform(self.task.config.seed, epoch, indices, "window", DRAWS))

    def _load(self, index: int, load: Callable[[File], Any], skipped: dict[int, str]) -> tuple[Any, int]:
        """What is made of `index` or, where bad files are skipped, of the first after it that can be read."""
        bad: list[str] = []
        for step in range(min(NEIGHBOURS, len(self.files))):
            here = (index + step) % len(self.files)
            try:
                made = load(self.files[here])
            except Unreadable as error:
                if not self.skip:
                    raise UserError(f"{error} (--data.on-error skip goes on without it)") from None
                bad.append(str(error))
                continue
            for passed, reason in enumerate(bad):
                skipped[(index + passed) % len(self.files)] = f"{reason}; {self.files[here]} was taken in its place"
            return made, here
        raise UserError(f"{len(bad)} files in a row cannot be read, {bad[0]} first")
