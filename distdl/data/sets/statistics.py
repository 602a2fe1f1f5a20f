"""Mean and standard deviation of a data set of image files: measured once and cached."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from distdl.core.config import DataConfig
from distdl.core.counter_rng import generator
from distdl.core.errors import UserError
from distdl.core.files import write_json
from distdl.core.paths import cache_folder, fingerprint
from distdl.core.regular import read_regular
from distdl.data.augment.crops import central_window
from distdl.data.dataset import EncodedSplit
from distdl.data.files import File, Part, Unreadable
from distdl.data.storage.download import locked
from distdl.runtime.cores import cores

SAMPLES = 1000
"""Maximum number of measured images: their mean is within 0.01 of the data set's (3 standard errors; the means of
photographs have a standard deviation of 0.1)."""

Moments = tuple[tuple[float, ...], tuple[float, ...]]


def of_files(split: EncodedSplit, channels: int, central: float, size: int, config: DataConfig) -> Moments:
    """Measure mean and standard deviation per channel, in 0 to 1, of images as they are read in evaluation.

    With more than 1,000 files a fixed random sample of them is measured.

    Raises:
        UserError: an image cannot be read and `config.on_error` is raise, or none can be read.
    """
    picks = generator().permutation(len(split))[:SAMPLES]
    files = [split.files[index] for index in np.sort(picks)]
    target = cache_folder() / "statistics" / f"{_key(files, channels, central, size, config.max_pixels)}.json"
    if moments := _cached(target):
        return moments
    with locked(target):
        moments = _cached(target) or _measure(files, channels, central, size, config)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, moments)
    return moments


def of_images(images: np.ndarray) -> Moments:
    """Compute mean and standard deviation per channel, in 0 to 1, of images [n, H, W, C] uint8."""
    values = np.arange(256) / 255
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(images.shape[3])])
    mean = counts @ values / counts.sum(1)
    return _rounded(mean, counts @ values**2 / counts.sum(1))


def _rounded(mean: np.ndarray, square: np.ndarray) -> Moments:
    std = np.maximum(np.sqrt(np.maximum(square - mean**2, 0)), 1 / 255)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def _key(files: list[File], *settings: float) -> str:
    digest = hashlib.sha256(" ".join(map(str, settings)).encode())
    for file in files:
        path, *place = file if isinstance(file, Part) else (file,)
        try:
            digest.update(fingerprint(path))
        except OSError:
            digest.update(os.fsencode(path.absolute()))
        digest.update(f"{place}\n".encode())
    return digest.hexdigest()[:24]


def _cached(path: Path) -> Moments | None:
    try:
        mean, std = json.loads(read_regular(path))
        return tuple(map(float, mean)), tuple(map(float, std))
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # not measured yet, or damaged: measure again


def _measure(files: list[File], channels: int, central: float, size: int, config: DataConfig) -> Moments:
    from distdl.data.storage import decode  # imports torch, which a set of known statistics does not need

    window = partial(central_window, share=central)

    def sums(file: File) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            image = decode.load(file, channels, window, size, config.max_pixels).numpy() / 255
        except Unreadable as error:
            if config.on_error == "raise":
                raise UserError(f"{error} (--data.on-error skip continues without it)") from None
            return None
        return image.mean((0, 1)), (image**2).mean((0, 1))

    with ThreadPoolExecutor(cores()) as pool:
        parts = [part for part in pool.map(sums, files) if part]
    if not parts:
        raise UserError(f"none of the images could be read; the first is {files[0]}")
    return _rounded(*np.mean(parts, axis=0))
