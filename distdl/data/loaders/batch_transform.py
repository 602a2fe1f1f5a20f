"""Last stages of loading, shared by all loaders: convert a batch of bytes to the network's input."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from distdl.data.augment import color
from distdl.data.augment import random_params as augment
from distdl.data.dataset import ResidentSplit
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.device import REDUCED_PRECISION
from distdl.telemetry.clock import Clock

Params = dict[str, torch.Tensor]
Stage = Callable[[torch.Tensor, Params], torch.Tensor]


@contextlib.contextmanager
def transfer(clock: Clock, device: torch.device) -> Iterator[None]:
    """Measure copies to the device and work on it as phase "transfer", inside a step that is measured as "data"."""
    if device.type == "cuda":
        with clock("transfer"):
            yield
    else:
        start = time.perf_counter()
        yield
        clock.add("transfer", time.perf_counter() - start, out_of="data")


@contextlib.contextmanager
def single_threaded(device: torch.device) -> Iterator[None]:
    """Use one thread on a CPU: the other cores run worker processes, and a team of threads would wait for them."""
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def on_device(params: Mapping[str, np.ndarray], device: torch.device) -> Params:
    """Copy parameters of an augmentation to the device as tensors."""
    return {name: torch.from_numpy(values).to(device, non_blocking=True) for name, values in params.items()}


def cut_bytes(images: torch.Tensor, params: Params, padding: int) -> torch.Tensor:
    """Pad images [b, H, W, C] uint8 by `padding` pixels, crop them at "shift" and mirror those with "flip".

    On a CPU the images may be modified in place.
    """
    if "shift" not in params and "flip" not in params:
        return images
    if "shift" not in params and images.device.type == "cpu":
        return augment.mirror_(images, params["flip"])
    every_image, size = torch.arange(len(images), device=images.device), (images.shape[1], images.shape[2])
    return augment.cut(augment.pad(images, padding), every_image, size, params.get("shift"), params.get("flip"))


class BatchTransform:
    """Converts bytes [b, H, W, C] on the device, with their parameters, to images [b, C, size, size] and labels.

    The stages are selected once, in the constructor; without any, the bytes are only normalized.
    """

    def __init__(self, spec: LoaderSpec) -> None:
        self.spec = spec
        self.classes = len(spec.dataset.classes)
        self.dtype = REDUCED_PRECISION.get(spec.config.compute.precision, torch.float32)
        self.channels_last = spec.config.compute.channels_last
        self.mean = torch.tensor(spec.dataset.mean, device=spec.world.device).view(-1, 1, 1)
        self.std = torch.tensor(spec.dataset.std, device=spec.world.device).view(-1, 1, 1)
        self.stages = _stages(spec)
        settings = spec.config.data.augment
        self.mixes = spec.training and bool(settings.mixup or settings.cutmix)

    @property
    def is_identity(self) -> bool:
        """Whether images are only normalized."""
        return not self.stages and not self.mixes and not self.spec.ten_crop

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Return labels [b] unchanged, and convert labels [b, k] to class probabilities [b, classes]."""
        return augment.shares(labels, self.classes) if labels.dim() == 2 else labels

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, params: Params) -> tuple[torch.Tensor, torch.Tensor]:
        images = images.permute(0, 3, 1, 2)
        labels = self.targets(labels)
        if self.stages or self.mixes:
            images = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
        for stage in self.stages:
            images = stage(images, params)
        if self.mixes:
            images, labels = augment.mix(images, labels, params["mix"], self.classes)
        images = augment.normalize(images, self.mean, self.std, self.dtype, self.channels_last)
        if self.spec.ten_crop:
            images = augment.ten_crop(images, self.spec.size)
        return images, labels


def _stages(spec: LoaderSpec) -> list[Stage]:
    """Return the stages that process float images, in order."""
    settings, size = spec.config.data.augment, spec.read_size
    stages: list[Stage] = []
    if isinstance(spec.split, ResidentSplit):
        if spec.training and settings.random_resized_crop:
            stages.append(lambda images, params: augment.cut_windows(images, params["window"], size))
        elif spec.split.images.shape[1:3] != (size, size):
            stages.append(lambda images, params: augment.resize(images, size))
    if spec.training and settings.rotation:
        stages.append(lambda images, params: augment.rotate(images, params["angle"]))
    if spec.training and settings.color_jitter:
        stages.append(lambda images, params: color.jitter(images, params["jitter"]))
    return [*stages, *spec.extras]
