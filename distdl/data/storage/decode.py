"""Read an image file, decode it, crop a window and resize it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from distdl.core.config import MAX_PIXELS
from distdl.data.files import File, Unreadable, read
from distdl.data.storage.image_header import ImageHeader, header_of, open_image, read_header, tiff_tag
from distdl.data.storage.jpeg import decode_jpeg, is_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""TIFF's tag PhotometricInterpretation, and its value for images in which 0 is white."""
Window = tuple[int, int, int, int]
"""Top, left, height and width, in the pixels of the upright image."""
WindowOf = Callable[[int, int], Window]
"""Function from an image's height and width to its window."""


def load(file: File, channels: int, window: WindowOf, size: int, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Read, decode, crop and resize one image. The EXIF orientation is applied.

    Args:
        channels: 3 for RGB or 1 for gray; the image is converted if necessary.
        window: function from the image's height and width to its crop window.
        size: height and width, in pixels, to which the window is resized (bilinear, antialiased).
        max_pixels: an image with more pixels is not decoded.
    Returns:
        uint8 [size, size, channels], contiguous.
    Raises:
        Unreadable: the file cannot be read or decoded, or has more than `max_pixels` pixels.
    """
    image = decode(file, channels, max_pixels)
    top, left_edge, height, width = window(image.shape[1], image.shape[2])
    return resize(image[:, top : top + height, left_edge : left_edge + width], size).permute(1, 2, 0).contiguous()


def resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize uint8 [channels, height, width] to [channels, size, size], bilinear, antialiased if it shrinks."""
    if image.shape[1:] == (size, size):
        return image
    # torch has a vectorized path for channels-last images: twice as fast, including the copy of the window.
    batch = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(batch, (size, size), mode="bilinear", antialias=True)[0]


def decode(file: File, channels: int, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Read and decode a whole image, upright, uint8 [channels, height, width].

    Raises:
        Unreadable: as `load`.
    """
    return decode_content(file, read(file), channels, max_pixels)


def decode_content(file: File | str, content: np.ndarray, channels: int, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Decode an image from its bytes [n] uint8, as `decode` does.

    Args:
        file: name for errors.
    """
    mode = "RGB" if channels == 3 else "L"
    if is_jpeg(content):
        header = read_header(file, content, max_pixels)
        pixels = decode_jpeg(content, mode) if header.mode in ("L", mode) else None
        if pixels is not None and pixels.shape[:2] == (header.height, header.width):
            return _upright(pixels, header)
    with open_image(file, content, max_pixels) as image:
        pixels = _decode_pillow(file, image, mode)
        return _upright(pixels, header_of(image))


def _upright(pixels: np.ndarray, header: ImageHeader) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(UPRIGHT[header.orientation](pixels))).permute(2, 0, 1)


def _decode_pillow(file: File | str, image: "Image", mode: str) -> np.ndarray:
    image.load()
    header = header_of(image)
    if header.bits == 32:
        raise Unreadable(f"{file} has 32 bits per pixel (mode {header.mode}): scale it to 8 or 16")
    if header.bits > 8:
        from PIL import Image

        # Pillow's conversion clips to 255, so that all but the darkest pixels would be white. It inverts a TIFF in
        # which 0 is white only up to 8 bits.
        gray = (np.asarray(image) >> (header.bits - 8)).astype(np.uint8)
        is_inverted = tiff_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
        image = Image.fromarray(255 - gray if is_inverted else gray)
    if image.mode != mode:
        image = image.convert(mode)
    return np.array(image).reshape(image.height, image.width, len(mode))


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""By EXIF orientation, a function that returns an upright view of pixels [height, width, channels]."""
