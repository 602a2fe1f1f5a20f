"""Which part of an image is seen: windows (top, left, height, width) in its own pixels, before it is resized."""

import numpy as np

DRAWS = 22
"""Random numbers that `random_window` takes: ten attempts at area and aspect, and a place."""
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)


def central_window(height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """The square in the middle whose side is `share` of the image's short side."""
    side = max(round(min(height, width) * share), 1)
    return (height - side) // 2, (width - side) // 2, side, side


def random_window(draws: np.ndarray, height: int | np.ndarray, width: int | np.ndarray) -> np.ndarray:
    """Windows of 8 to 100 % of the area and aspect 3/4 to 4/3, drawn as torchvision's RandomResizedCrop does.

    The first of ten attempts that fits is taken; where none does, the largest window in the middle whose aspect is
    allowed (Szegedy et al. 2015, section 6).

    Args:
        draws: [n, 22] in [0, 1).
        height, width: of the images, in pixels, each a number or [n].
    Returns:
        [n, 4] int64: top, left, height, width.
    """
    height, width = (np.broadcast_to(np.asarray(size), len(draws))[:, None] for size in (height, width))
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * draws[:, :10])
    low, high = np.log(ASPECT)
    aspect = np.exp(low + (high - low) * draws[:, 10:20])
    wide = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    tall = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = fits.argmax(1)[:, None]
    some = np.take_along_axis(fits, first, 1)
    widest = np.minimum(width, np.rint(height * ASPECT[1])).astype(np.int64)
    tallest = np.minimum(height, np.rint(width / ASPECT[0])).astype(np.int64)
    wide = np.where(some, np.take_along_axis(wide, first, 1), widest)
    tall = np.where(some, np.take_along_axis(tall, first, 1), tallest)
    top = np.where(some, (draws[:, 20:21] * (height - tall + 1)).astype(np.int64), (height - tall) // 2)
    left = np.where(some, (draws[:, 21:22] * (width - wide + 1)).astype(np.int64), (width - wide) // 2)
    return np.concatenate([top, left, tall, wide], axis=1)
