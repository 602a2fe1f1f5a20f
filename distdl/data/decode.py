"""From a file to pixels of one size: read, decode, take a window, resize."""

import functools
import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from distdl.data.encoded import File, Unreadable, read

Window = tuple[int, int, int, int]
"""Top, left, height and width, in the pixels of the image as it stands upright."""
WindowOf = Callable[[int, int], Window]
"""The window of an image of this height and width."""


def load(file: File, channels: int, window: WindowOf, size: int) -> torch.Tensor:
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
    image = decode(file, channels)
    top, left, height, width = window(image.shape[1], image.shape[2])
    return resize(image[:, top : top + height, left : left + width], size).permute(1, 2, 0).contiguous()


def resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 [channels, height, width] to [channels, size, size], bilinear, antialiased where it shrinks."""
    if image.shape[1:] == (size, size):
        return image
    # torch has a vectorised path for whole pixels that lie together: twice as fast, the copy of the window included.
    whole = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(whole, (size, size), mode="bilinear", antialias=True)[0]


def decode(file: File, channels: int) -> torch.Tensor:
    """The whole image, uint8 [channels, height, width]; the same errors as `load`."""
    content = read(file)
    try:
        image = _torchvision(channels)(torch.from_numpy(content))
    except RuntimeError:
        # Formats that torchvision does not read, and files so damaged that a second opinion costs nothing.
        return _decode_pillow(file, content, channels)
    if image.dtype == torch.uint16:
        image = (image.to(torch.int32) >> 8).to(torch.uint8)
    # WebP and GIF come in colour, whatever is asked for.
    return image if image.shape[0] == channels else _decode_pillow(file, content, channels)


@functools.cache
def _torchvision(channels: int) -> Callable[[torch.Tensor], torch.Tensor]:
    # Imported when the first file is read: sets in memory start a second sooner.
    from torchvision.io import ImageReadMode, decode_image

    mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
    return functools.partial(decode_image, mode=mode, apply_exif_orientation=True)


def _decode_pillow(file: File, content: np.ndarray, channels: int) -> torch.Tensor:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
            pixels = np.array(upright).reshape(upright.height, upright.width, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{file} cannot be decoded: {str(error).partition(' <_io')[0]}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)
