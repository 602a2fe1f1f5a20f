"""The last part of a sample's way, the same for every loader: from a batch of bytes to what the network takes."""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from distdl.data.augment import color
from distdl.data.augment import random_params as augment
from distdl.data.dataset import ResidentSplit
from distdl.data.loaders.spec import Task
from distdl.runtime.device import REDUCED_PRECISION
from distdl.telemetry.clock import Clock

Drawn = dict[str, torch.Tensor]
Stage = Callable[[torch.Tensor, Drawn], torch.Tensor]


@contextlib.contextmanager
def transfer(clock: Clock, device: torch.device) -> Iterator[None]:
    """Time what is done in a loader's step, itself timed as "data", as "transfer": to the device, and upon it."""
    if device.type == "cuda":
        with clock("transfer"):
            yield
    else:
        since = time.perf_counter()
        yield
        clock.add("transfer", time.perf_counter() - since, out_of="data")


@contextlib.contextmanager
def beside_workers(device: torch.device) -> Iterator[None]:
    """On a CPU, compute with one thread: the others' cores are the workers', for which a team of threads would wait."""
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def cut_bytes(images: torch.Tensor, drawn: Drawn, padding: int) -> torch.Tensor:
    """Bytes [b, H, W, C], cut from the images padded by so many pixels and mirrored, where that was drawn.

    The images are the caller's own: on a CPU they may be mirrored where they lie.
    """
    if "shift" not in drawn and "flip" not in drawn:
        return images
    if "shift" not in drawn and images.device.type == "cpu":
        return augment.mirror_(images, drawn["flip"])
    everyone, size = torch.arange(len(images), device=images.device), images.shape[1:3]
    return augment.cut(augment.pad(images, padding), everyone, size, drawn.get("shift"), drawn.get("flip"))


class Finish:
    """From bytes [b, H, W, C] on the device and what was drawn for them to images [b, C, size, size] and labels.

    Which stages there are is decided here, once; without any, bytes are normalised at once.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.classes = len(task.dataset.classes)
        self.dtype = REDUCED_PRECISION.get(task.config.compute.precision, torch.float32)
        self.channels_last = task.config.compute.channels_last
        self.mean = torch.tensor(task.dataset.mean, device=task.world.device).view(-1, 1, 1)
        self.std = torch.tensor(task.dataset.std, device=task.world.device).view(-1, 1, 1)
        self.stages = _stages(task)
        settings = task.config.data.augment
        self.mixes = task.training and bool(settings.mixup or settings.cutmix)

    @property
    def plain(self) -> bool:
        """Nothing is done to the images but to normalise them."""
        return not self.stages and not self.mixes and not self.task.ten_crop

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels [b] as they are, [b, k] as shares of classes."""
        return augment.shares(labels, self.classes) if labels.dim() == 2 else labels

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor]:
        images = images.permute(0, 3, 1, 2)
        labels = self.targets(labels)
        if self.stages or self.mixes:
            images = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
        for stage in self.stages:
            images = stage(images, drawn)
        if self.mixes:
            images, labels = augment.mix(images, labels, drawn["mix"], self.classes)
        images = augment.normalize(images, self.mean, self.std, self.dtype, self.channels_last)
        if self.task.ten_crop:
            images = augment.ten_crop(images, self.task.size)
        return images, labels


def _stages(task: Task) -> list[Stage]:
    """What is done to floats, in order."""
    settings, size = task.config.data.augment, task.read_size
    stages: list[Stage] = []
    if isinstance(task.split, ResidentSplit):
        if task.training and settings.random_resized_crop:
            stages.append(lambda images, drawn: augment.cut_windows(images, drawn["window"], size))
        elif task.split.images.shape[1:3] != (size, size):
            stages.append(lambda images, drawn: augment.resize(images, size))
    if task.training and settings.rotation:
        stages.append(lambda images, drawn: augment.rotate(images, drawn["angle"]))
    if task.training and settings.color_jitter:
        stages.append(lambda images, drawn: color.jitter(images, drawn["jitter"]))
    return stages
