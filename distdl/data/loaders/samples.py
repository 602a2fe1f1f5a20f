"""Reading of samples by index, as bytes of one size: the work of a loader's worker processes and threads."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from distdl.core.counter_rng import uniform
from distdl.core.errors import UserError
from distdl.data.augment.crops import DRAWS, central_window, random_windows
from distdl.data.dataset import EncodedSplit, ResidentSplit
from distdl.data.files import File, FilePaths, Unreadable, compact
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.storage import decode

MAX_CONSECUTIVE_UNREADABLE = 100
"""Number of consecutive unreadable files after which the run fails."""


class Chunk(NamedTuple):
    """Samples that were read together."""

    images: Any
    """[b, H, W, C] uint8, or the number of their slot; for `Samples.gather`, a list of [count] results."""
    indices: np.ndarray
    """[b] int64: the samples that were read. In training, an unreadable sample is replaced by the next readable one; in
    evaluation, unreadable samples come last."""
    params: dict[str, np.ndarray]
    """Parameters of the augmentation that follows, for the requested samples."""
    skipped: dict[int, str]
    """By index of an unreadable sample: the fault of its file, and how it was handled."""
    readable: int
    """Number of samples that were read: the first `readable` of the b. It is less than b in evaluation only."""
    error: str
    """Error that ends the run; empty if there is none. It is a value, since an exception would cross the process
    boundary as a traceback, and the user should see one line."""


class Samples(torch.utils.data.Dataset):
    """Samples of a loader: `samples[epoch, indices]` is a Chunk, `samples[epoch, indices, slot]` one in `slots[slot]`.

    Args:
        slots: [n, batch, size, size, C] uint8, memory shared by the processes. Without it, memory is allocated for each
            batch: zeroing and mapping its pages in both processes takes a fifth of the decoding time.
    """

    def __init__(self, spec: LoaderSpec, slots: torch.Tensor | None = None) -> None:
        self.spec, self.slots = spec, slots
        self.images = spec.split.images if isinstance(spec.split, ResidentSplit) else None
        self.files = compact(spec.split.files) if isinstance(spec.split, EncodedSplit) else FilePaths(())
        self.skip = spec.config.data.on_error == "skip"
        self.max_pixels = spec.config.data.max_pixels
        self.random = spec.training and spec.config.data.augment.random_resized_crop

    def __getitem__(self, request: tuple[int, np.ndarray] | tuple[int, np.ndarray, int]) -> Chunk:
        epoch, indices, *slot = request
        if self.images is not None:
            images, params = torch.from_numpy(self.images[indices]), self.spec.draw(epoch, indices)
            return Chunk(images, indices, params, {}, len(indices), "")
        size, channels = self.spec.read_size, self.spec.dataset.channels
        if slot:
            assert self.slots is not None  # a request with a slot comes from a loader with slots
            images = self.slots[slot[0], : len(indices)]
        else:
            images = torch.empty(len(indices), size, size, channels, dtype=torch.uint8)
            if torch.utils.data.get_worker_info():
                images.share_memory_()  # the other process reads the memory that is filled here, without a copy
        targets = iter(images)

        def load(file: File, window: decode.WindowOf) -> None:
            image = decode.load(file, channels, window, size, self.max_pixels)
            next(targets).copy_(image)

        chunk = self.gather(epoch, indices, load)
        for image in targets:
            image.zero_()
        return chunk._replace(images=slot[0] if slot else images)

    def gather(self, epoch: int, indices: np.ndarray, load: Callable[[File, decode.WindowOf], Any]) -> Chunk:
        """Call `load(file, window)` for the samples at `indices` [n]; unreadable ones are handled by data.on_error."""
        results, loaded, unreadable, skipped, error = [], [], [], {}, ""
        try:
            for index, window in zip(indices.tolist(), self._windows(epoch, indices), strict=True):
                result, number = self._load(index, lambda file, window=window: load(file, window), skipped)
                if number is None:
                    unreadable.append(index)
                else:
                    results.append(result)
                    loaded.append(number)
        except UserError as raised:
            error = str(raised)
        order = indices if error else np.array(loaded + unreadable, np.int64)
        return Chunk(results, order, self.spec.draw(epoch, indices), skipped, len(loaded), error)

    def _windows(self, epoch: int, indices: np.ndarray) -> list[decode.WindowOf]:
        if not self.random:
            return [partial(central_window, share=self.spec.central)] * len(indices)
        return random_windows(uniform(self.spec.config.seed, epoch, indices, "window", DRAWS))

    def _load(self, index: int, load: Callable[[File], Any], skipped: dict[int, str]) -> tuple[Any, int | None]:
        """Load sample `index` and return the result with its index.

        If the sample is unreadable and data.on_error is skip, training loads the next readable one; evaluation returns
        None for both.
        """
        bad: list[str] = []
        for step in range(min(MAX_CONSECUTIVE_UNREADABLE, len(self.files))):
            number = (index + step) % len(self.files)
            try:
                result = load(self.files[number])
            except Unreadable as error:
                if not self.skip:
                    raise UserError(f"{error} (--data.on-error skip continues without it)") from None
                if not self.spec.training:
                    skipped[index] = f"{error}; left out of the evaluation"
                    return None, None
                bad.append(str(error))
                continue
            for passed, reason in enumerate(bad):
                skipped[(index + passed) % len(self.files)] = f"{reason}; {self.files[number]} is used instead"
            return result, number
        raise UserError(f"{len(bad)} consecutive files cannot be read; the first error: {bad[0]}")
