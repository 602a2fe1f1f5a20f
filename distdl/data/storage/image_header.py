"""Headers of encoded images. All calls of Pillow's parsers, and the handling of their errors, are in this module.

An image is readable if Pillow can read it. Its parsers raise more exceptions than they document, so any exception is
reported as `Unreadable`, with the exception's class.
"""

import contextlib
import functools
import io
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distdl.core.config import MAX_PIXELS
from distdl.core.errors import reason
from distdl.data.files import File, Unreadable
from distdl.data.storage.jpeg import jpeg_frame

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
"""Formats that are read. Pillow's other formats start programs (EPS) or have no signature (TGA), so that any file could
be read as one."""
HEAD = 4096
"""Number of bytes that contain the header of a JPEG without metadata."""
SCAN, APP1 = 0xDA, 0xE1
NOT_PLAIN = {APP1, 0x00, 0x01, *range(0xD0, 0xDA), 0xFF}
"""Markers for which Pillow reads the header: metadata, and markers without a length."""
ORIENTATION = 0x0112
"""EXIF's tag Orientation."""
BITS_PER_SAMPLE = 258
"""TIFF's tag BitsPerSample."""


class ImageHeader(NamedTuple):
    """Properties of an encoded image that are known before its pixels are decoded."""

    format: str
    """Pillow's name of the format: one of FORMATS, or MPO, which is a JPEG followed by others."""
    mode: str
    """Pillow's name of the mode: 1, L, P, RGB, CMYK, ..."""
    bits: int
    """Bits per channel."""
    height: int
    """Height in pixels as stored, before the orientation is applied."""
    width: int
    """Width in pixels as stored."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width in pixels after the orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


@contextlib.contextmanager
def open_image(file: File | str, content: np.ndarray, max_pixels: int = MAX_PIXELS) -> Iterator["Image"]:
    """Open an encoded image; only its header is read. The block should only call decoders, since all errors in it are
    reported as `Unreadable`.

    Args:
        file: name for errors.
        content: [n] uint8, the file's bytes.
    Raises:
        Unreadable: the image has more than `max_pixels` pixels, or anything in the block raised.
    """
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(content.data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise Unreadable(
                    f"{file} has {image.width:,} x {image.height:,} pixels, more than data.max_pixels {max_pixels:,}"
                )
            yield image
    except Unreadable:
        raise
    except pillow.DecompressionBombError:
        raise Unreadable(f"{file} has more pixels than data.max_pixels {max_pixels:,}") from None
    except Exception as error:
        raise Unreadable(f"{file} cannot be decoded: {reason(error)}") from None


@functools.cache
def _pillow() -> ModuleType:
    """Import PIL.Image when the first file is read: data sets in memory do not need it."""
    from PIL import Image, PngImagePlugin

    # By default Pillow refuses a PNG with a compressed text chunk above 1 MiB. The limit for all text, 64 MiB, remains.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    return Image


def header_of(image: "Image") -> ImageHeader:
    """Return the header of an opened image.

    A PNG may have its orientation after its pixels: it is 1 until they are loaded.
    """
    # Pillow applies the orientation of a TIFF when it loads it, and always reports the upright size.
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    return ImageHeader(image.format or "", image.mode, _bits(image), image.height, image.width, orientation)


def read_header(file: File | str, content: np.ndarray, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Read the header of an encoded image, [n] uint8.

    Raises:
        Unreadable: as `open_image`.
    """
    header = _plain_jpeg(content)
    if header and header.height * header.width <= max_pixels:
        return header
    with open_image(file, content, max_pixels) as image:
        return header_of(image)


def _plain_jpeg(content: np.ndarray) -> ImageHeader | None:
    """Read the header of a JPEG without EXIF and XMP, in 3 us instead of Pillow's 30 us; None for other images."""
    frame = jpeg_frame(content)
    if frame is None or not _is_without_metadata(content[:HEAD].tobytes()):
        return None
    return ImageHeader("JPEG", frame.mode, 8, frame.height, frame.width, 1)


def _is_without_metadata(head: bytes) -> bool:
    """Whether the segments of a JPEG up to its first scan are all in `head`, and none is APP1 (EXIF, XMP).

    The walk uses the lengths of segments, because a thumbnail or comment may contain the bytes of any marker.
    """
    position = 2
    while head[position : position + 1] == b"\xff" and len(head) >= position + 4:
        marker = head[position + 1]
        if marker == SCAN:
            return True
        if marker in NOT_PLAIN:
            return False
        position += 2 + int.from_bytes(head[position + 2 : position + 4])
    return False


def _orientation(image: "Image") -> int:
    """Read the orientation from EXIF or XMP as `PIL.ImageOps.exif_transpose` does; an invalid value becomes 1."""
    # getexif of the base class: that of a PNG would decode the pixels.
    value = _pillow().Image.getexif(image).get(ORIENTATION, 1)
    return next((number for number in range(2, 9) if number == value), 1)


def tiff_tag(image: "Image", tag: int) -> Any:
    """Return the value of a TIFF's tag; None if the image is not a TIFF or does not have the tag."""
    from PIL.TiffImagePlugin import TiffImageFile

    return image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None


def _bits(image: "Image") -> int:
    if image.mode == "1":
        return 1
    if image.mode in ("I", "F"):
        return 16 if image.format == "PPM" and image.mode == "I" else 32  # Pillow scales a 2-byte PGM to 0..65535
    if image.mode.startswith("I;16"):
        return max(tiff_tag(image, BITS_PER_SAMPLE) or (16,))  # a TIFF may have 12 bits
    return 8
