"""Throughput of each stage of the input pipeline alone, the bottleneck of a training, and how to remove it."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from distdl.core.counter_rng import generator
from distdl.core.errors import UserError
from distdl.data.augment.crops import central_window
from distdl.data.dataset import EncodedSplit
from distdl.data.files import Part, Unreadable, read
from distdl.data.loaders.batch_transform import BatchTransform, cut_bytes
from distdl.data.loaders.samples import Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.storage import decode

SAMPLES = 256
"""Number of samples with which each stage is measured."""


@dataclass(frozen=True, kw_only=True)
class StageRates:
    """Throughput of each stage alone, in images per second; None if the data set has no such stage."""

    cores: int
    """Number of cores that decode."""
    disk: float | None = None
    """Sequential read from disk, after the files were dropped from the page cache."""
    decode: float | None = None
    """Decoding whole images, on one core."""
    augment: float | None = None
    """Cropping the window and resizing it, on one core."""
    finish: float | None = None
    """The remaining augmentation and normalization, on the device."""
    transfer: float | None = None
    """Copies from the host to the device."""
    network: float | None = None
    """Forward pass, backward pass and update, without waiting for data."""

    @property
    def core(self) -> float | None:
        """Images per second that one core decodes and crops."""
        return 1 / (1 / self.decode + 1 / self.augment) if self.decode and self.augment else None

    def ceiling(self, stage: str) -> float | None:
        """Return the maximum images per second of a stage with all cores; decode and augment share the cores."""
        if stage in ("decode", "augment") and self.core:
            return self.cores * self.core
        return getattr(self, stage)


STAGES = ("disk", "decode", "augment", "finish", "transfer", "network")


def diagnose(rates: StageRates, fastest: str = "dali") -> tuple[str, str]:
    """Return the slowest stage, and a sentence with its throughput and the setting that removes the bottleneck.

    Args:
        fastest: the loader that was fastest on this set.
    Raises:
        ValueError: no stage has a rate.
    """
    limits = {stage: limit for stage in STAGES if (limit := rates.ceiling(stage))}
    if not limits:
        raise ValueError("no stage was measured")
    slowest = min(limits, key=lambda stage: limits[stage])
    if slowest == "decode" and rates.augment and rates.decode and rates.augment < rates.decode:
        slowest = "augment"
    limit, network = limits[slowest], limits.get("network")
    if slowest == "network":
        input_limit = min((value for stage, value in limits.items() if stage != "network"), default=np.inf)
        return slowest, (
            f"the network processes {limit:,.0f} images/s and the input can deliver {input_limit:,.0f}: the input is "
            "not the bottleneck; --compute.precision bf16, --compute.compile or more devices speed up the network"
        )
    needed = f", the network processes {network:,.0f}" if network else ""
    sentence = f"{slowest} delivers {limit:,.0f} images/s{needed}: "
    return slowest, sentence + _remedy(slowest, rates, network, fastest)


def _remedy(stage: str, rates: StageRates, network: float | None, fastest: str) -> str:
    if stage == "disk":
        return "run distdl data pack NAME --format shards --out FOLDER and use --data.name FOLDER to read large blocks"
    if stage in ("decode", "augment"):
        cores = ""
        if network and rates.core:
            needed = int(np.ceil(network / rates.core))
            cores = f" (the network needs {needed} decoding cores; this machine has {rates.cores})"
        return (
            f"use --data.loader {fastest} with all cores{cores}; write smaller files with distdl data export NAME "
            "--format jpeg --size 256; or, if the set fits in memory, decode it once with --data.loader resident"
        )
    if stage == "finish":
        return "use fewer --data.augment options, or a GPU, on which this stage costs little"
    return (
        "images are already copied as bytes: keep the set on the device with --data.loader resident, decode there "
        "with --data.loader dali, or use a smaller --data.image-size"
    )


def measure(spec: LoaderSpec, cores: int, report: Callable[[str], None] = lambda _: None) -> StageRates:
    """Measure all stages of a training loader; the network is not measured.

    Args:
        cores: number of cores that decode.
        report: called with the name of each stage before it is measured.
    Raises:
        UserError: no sample can be read.
    """
    count = min(SAMPLES, len(spec.split))
    picks = generator().permutation(len(spec.split))[:count]
    per_second: dict[str, float] = {}
    samples = Samples(spec)
    if isinstance(spec.split, EncodedSplit):
        files = [samples.files[pick] for pick in picks.tolist()]
        report("disk")
        for file in files:
            _drop_from_page_cache(file)
        per_second["disk"] = count / _seconds(lambda: [_tolerant(read, file) for file in files])
        report("decode")
        data, images = spec.config.data, []
        decode_one = partial(decode.decode, channels=spec.dataset.channels, max_pixels=data.max_pixels)
        _tolerant(decode_one, files[0])  # imports the decoder
        seconds = _on_one_thread(lambda: images.extend(_tolerant(decode_one, file) for file in files))
        images = [image for image in images if image is not None]
        if not images:
            raise UserError(f"none of the images could be read; the first is {files[0]}")
        per_second["decode"] = len(images) / seconds
        report("augment")
        windows = (
            samples._windows(0, picks) if samples.random else [partial(central_window, share=spec.central)] * count
        )
        per_second["augment"] = len(images) / _on_one_thread(
            lambda: [_cut(image, window, spec.read_size) for image, window in zip(images, windows, strict=False)]
        )
    chunk = samples[0, picks[: spec.batch]]
    if chunk.error:
        raise UserError(chunk.error)
    report("finish")
    per_second["finish"] = _finish_rate(spec, chunk.images, chunk.params)
    if spec.world.device.type == "cuda":
        report("transfer")
        pinned = chunk.images.pin_memory()
        per_second["transfer"] = _device_rate(
            spec, len(pinned), lambda: pinned.to(spec.world.device, non_blocking=True)
        )
    return StageRates(cores=cores, **per_second)


def of_run(result: Mapping[str, Any]) -> float | None:
    """Compute a run's throughput per rank without the time of waiting for data, from its result.json.

    Returns:
        images per second, or None if the run has no such time or no images.
    """
    busy_s = result["train_s"] - result["phases_s"]["data"] - result["phases_s"]["transfer"]
    return result["images"] / result["world_size"] / busy_s if busy_s > 0 and result["images"] else None


def _cut(image: torch.Tensor, window: decode.WindowOf, size: int) -> torch.Tensor:
    top, left_edge, height, width = window(image.shape[1], image.shape[2])
    return decode.resize(image[:, top : top + height, left_edge : left_edge + width], size)


def _tolerant(call: Callable[[Any], Any], file: Any) -> Any:
    try:
        return call(file)
    except Unreadable:
        return None


def _drop_from_page_cache(file: Any) -> None:
    """Ask the kernel to drop a file from the page cache, so that it is read from disk. The kernel may ignore this."""
    path = file.path if isinstance(file, Part) else file
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _on_one_thread(call: Callable[[], Any]) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _seconds(call)
    finally:
        torch.set_num_threads(threads)


def _finish_rate(spec: LoaderSpec, images: torch.Tensor, params: dict[str, np.ndarray]) -> float:
    finish, device = BatchTransform(spec), spec.world.device
    images = images.to(device)
    labels = torch.from_numpy(spec.split.labels)[: len(images)].to(device)
    values = {name: torch.from_numpy(value).to(device) for name, value in params.items()}
    padding = spec.config.data.augment.crop
    return _device_rate(spec, len(images), lambda: finish(cut_bytes(images, values, padding), labels, values))


def _device_rate(spec: LoaderSpec, count: int, call: Callable[[], Any], repeats: int = 10) -> float:
    cuda = spec.world.device.type == "cuda"
    call()
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if cuda:
        torch.cuda.synchronize()
    return repeats * count / (time.perf_counter() - start)
