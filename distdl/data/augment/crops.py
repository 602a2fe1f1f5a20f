"""Crop windows (top, left, height, width) in pixels of the original image, before it is resized."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

DRAWS = 22
"""Random numbers that `random_window` uses per image: area and aspect ratio of ten attempts, and a position."""
AREA = (0.08, 1.0)
"""Range of a window's area as a fraction of the image's area."""
ASPECT = (3 / 4, 4 / 3)
"""Range of a window's aspect ratio, width / height."""


def central_window(height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """Return the central square whose side is `share` of the image's short side: top, left, height, width."""
    side = max(round(min(height, width) * share), 1)
    return (height - side) // 2, (width - side) // 2, side, side


def random_window(draws: np.ndarray, height: int | np.ndarray, width: int | np.ndarray) -> np.ndarray:
    """Sample windows of 8 to 100 % of the area and aspect ratio 3/4 to 4/3, as torchvision's RandomResizedCrop does.

    The first of ten attempts that fits into the image is used. If none fits, the window is the largest central one
    with an allowed aspect ratio (Szegedy et al. 2015, section 6).

    Args:
        draws: [n, 22] uniform random numbers in [0, 1).
        height, width: size of the images in pixels, each a number or [n].
    Returns:
        [n, 4] int64: top, left, height, width.
    """
    height, width = (np.broadcast_to(np.asarray(size), len(draws))[:, None] for size in (height, width))
    side = np.sqrt(height * width)
    wide, tall = (np.rint(side * share).astype(np.int64) for share in _shares(draws))
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = fits.argmax(1)[:, None]
    any_fits = np.take_along_axis(fits, first, 1)
    widest = np.minimum(width, np.rint(height * ASPECT[1])).astype(np.int64)
    tallest = np.minimum(height, np.rint(width / ASPECT[0])).astype(np.int64)
    wide = np.where(any_fits, np.take_along_axis(wide, first, 1), widest)
    tall = np.where(any_fits, np.take_along_axis(tall, first, 1), tallest)
    top = np.where(any_fits, (draws[:, 20:21] * (height - tall + 1)).astype(np.int64), (height - tall) // 2)
    left_edge = np.where(any_fits, (draws[:, 21:22] * (width - wide + 1)).astype(np.int64), (width - wide) // 2)
    return np.concatenate([top, left_edge, tall, wide], axis=1)


def random_windows(draws: np.ndarray) -> list[Callable[[int, int], tuple[int, int, int, int]]]:
    """Sample windows as `random_window` does, for images whose sizes become known one at a time.

    For a single image this takes a tenth of the time.

    Args:
        draws: [n, 22] uniform random numbers in [0, 1).
    Returns:
        n functions from an image's height and width to its window.
    """
    wide, tall = (share.tolist() for share in _shares(draws))
    return [partial(_one_window, *shares) for shares in zip(wide, tall, draws[:, 20:].tolist(), strict=True)]


def _one_window(
    wide_shares: list[float], tall_shares: list[float], position: list[float], height: int, width: int
) -> tuple[int, int, int, int]:
    side = math.sqrt(height * width)
    for wide_share, tall_share in zip(wide_shares, tall_shares, strict=True):
        wide, tall = round(side * wide_share), round(side * tall_share)
        if 0 < wide <= width and 0 < tall <= height:
            return int(position[0] * (height - tall + 1)), int(position[1] * (width - wide + 1)), tall, wide
    wide, tall = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _shares(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return width and height of each attempt, [n, 10] each, relative to the side of a square with the image's area."""
    area = AREA[0] + (AREA[1] - AREA[0]) * draws[:, :10]
    low, high = np.log(ASPECT)
    aspect = np.exp(low + (high - low) * draws[:, 10:20])
    return np.sqrt(area * aspect), np.sqrt(area / aspect)
