"""From a file to pixels of one size: read, decode, take a window, resize."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

Window = tuple[int, int, int, int]
"""Top, left, height and width, in the pixels of the image as it stands upright."""


class Unreadable(Exception):
    """A file that is missing, cut short, or no image. The message names it."""


def load(path: Path, channels: int, window: Callable[[int, int], Window], size: int) -> torch.Tensor:
    """One image as the network's loader wants it.

    Args:
        channels: 3 for RGB or 1 for gray, whatever the file has; EXIF's orientation is followed.
        window: which part is seen, from the image's height and width.
        size: height and width, in pixels, to which the window is resized (bilinear, antialiased).
    Returns:
        uint8 [size, size, channels], contiguous.
    Raises:
        Unreadable: the file cannot be read or decoded.
    """
    image = decode(path, channels)
    top, left, height, width = window(image.shape[1], image.shape[2])
    image = image[:, top : top + height, left : left + width]
    if (height, width) != (size, size):
        image = F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]
    return image.permute(1, 2, 0).contiguous()


def decode(path: Path, channels: int) -> torch.Tensor:
    """The whole image, uint8 [channels, height, width]; the same errors as `load`."""
    try:
        encoded = torch.from_numpy(np.fromfile(path, np.uint8))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    if not len(encoded):
        raise Unreadable(f"{path} is empty")
    try:
        image = _torchvision(channels)(encoded)
    except RuntimeError:
        # Formats that torchvision does not read, and files so damaged that a second opinion costs nothing.
        return _decode_pillow(path, channels)
    if image.dtype == torch.uint16:
        image = (image.to(torch.int32) >> 8).to(torch.uint8)
    # WebP and GIF come in colour, whatever is asked for.
    return image if image.shape[0] == channels else _decode_pillow(path, channels)


@functools.cache
def _torchvision(channels: int) -> Callable[[torch.Tensor], torch.Tensor]:
    # Imported when the first file is read: sets in memory start a second sooner.
    from torchvision.io import ImageReadMode, decode_image

    mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
    return functools.partial(decode_image, mode=mode, apply_exif_orientation=True)


def _decode_pillow(path: Path, channels: int) -> torch.Tensor:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
            pixels = np.array(upright).reshape(upright.height, upright.width, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{path} cannot be decoded: {str(error).replace(str(path), 'it')}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)
