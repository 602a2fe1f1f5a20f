"""What DALI is fed: an image's bytes and the window that is cut from it, in the pixels of the upright image."""

import io
from typing import NamedTuple

import numpy as np

from distdl.data import decode
from distdl.data.encoded import File, read

FORMATS = {"JPEG", "PNG", "BMP", "PPM", "WEBP"}
"""What DALI decodes to the very pixels that the torch loader sees."""
MODES = {"1", "L", "P", "RGB", "RGBA", "LA", "CMYK"}
"""Of those, with 8 bits a channel at most."""
TAIL = 64
"""Bytes after a JPEG's end-of-image mark that are not held against it: some cameras pad."""


class Fed(NamedTuple):
    """One image, ready for a pipeline."""

    content: np.ndarray
    """[n] uint8: as it lies on disk, or a bitmap of what DALI does not read."""
    window: decode.Window


def prepare(file: File, window: decode.WindowOf, channels: int) -> Fed:
    """An image for DALI to decode. Only its header is looked at, which takes 20 microseconds.

    Raises:
        Unreadable: the file is no image, or cut short.
    """
    from PIL import Image

    content = read(file)
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind, mode, (width, height) = image.format, image.mode, image.size
            turned = kind != "JPEG" or "exif" in image.info
            if turned and image.getexif().get(0x0112, 1) >= 5:
                height, width = width, height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return prepare_decoded(file, window, channels)
    # In a pipeline a file that is cut short fails the whole batch, or comes out gray where only a part is decoded.
    whole = kind != "JPEG" or b"\xff\xd9" in content[-TAIL:].tobytes()
    if kind not in FORMATS or mode not in MODES or not whole or (channels == 1 and mode != "L"):
        return prepare_decoded(file, window, channels)
    return Fed(content, window(height, width))


def prepare_decoded(file: File, window: decode.WindowOf, channels: int) -> Fed:
    """An image decoded as the torch loader decodes it, its window as a bitmap.

    Raises:
        Unreadable: it cannot be decoded.
    """
    image = decode.decode(file, channels)
    top, left, height, width = window(image.shape[1], image.shape[2])
    pixels = image[:, top : top + height, left : left + width].permute(1, 2, 0).numpy()
    head = f"P{6 if channels == 3 else 5}\n{width} {height}\n255\n".encode()
    return Fed(np.frombuffer(head + pixels.tobytes(), np.uint8), (0, 0, height, width))
