"""Encoded images as Pillow opens them: the only place where an image parser is called, and where its errors end.

Pillow defines what is readable. Its parsers raise far more than they document, so that any exception is reported as
`Unreadable`, with the exception's class.
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
"""Formats that are read. Others of Pillow's start programs (EPS), or have no signature (TGA), so that any file can be
mistaken for one."""
HEAD = 4096
"""Bytes in which the header of a JPEG without metadata ends."""
SCAN, APP1 = 0xDA, 0xE1
NOT_PLAIN = {APP1, 0x00, 0x01, *range(0xD0, 0xDA), 0xFF}
"""Markers at which Pillow is asked: of metadata, and those without a length."""
ORIENTATION = 0x0112
"""EXIF's tag."""
BITS_PER_SAMPLE = 258
"""TIFF's tag."""


class ImageHeader(NamedTuple):
    """Properties of an encoded image that are known before its pixels are decoded."""

    format: str
    """Pillow's name: one of FORMATS, or MPO, which is a JPEG followed by others."""
    mode: str
    """Pillow's name: 1, L, P, RGB, CMYK, ..."""
    bits: int
    """Bits per channel."""
    height: int
    """Pixels, as stored."""
    width: int
    orientation: int
    """EXIF's, 1 to 8; 1 is upright."""

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width after the orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


@contextlib.contextmanager
def open_image(file: File | str, content: np.ndarray, max_pixels: int = MAX_PIXELS) -> Iterator["Image"]:
    """Open an encoded image: only its header is read. Decoders are called in this block and nothing else.

    Args:
        file: named in errors.
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
    """PIL.Image, imported when the first file is read: sets in memory start sooner."""
    from PIL import Image, PngImagePlugin

    # Pillow refuses a PNG with more than 1 MiB of zipped text. Its bound on all text, 64 MiB, stays.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    return Image


def header_of(image: "Image") -> ImageHeader:
    """Header of an opened image. A PNG may state its orientation after its pixels: it is 1 until they are loaded."""
    # Pillow turns a TIFF upright as it loads it, and reports the upright size from the start.
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    return ImageHeader(image.format or "", image.mode, _bits(image), image.height, image.width, orientation)


def read_header(file: File | str, content: np.ndarray, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Header of an encoded image; the same errors as `open_image`."""
    header = _plain_jpeg(content)
    if header and header.height * header.width <= max_pixels:
        return header
    with open_image(file, content, max_pixels) as image:
        return header_of(image)


def _plain_jpeg(content: np.ndarray) -> ImageHeader | None:
    """Header of a JPEG without EXIF and XMP, in a tenth of the time that Pillow takes: 3 us instead of 30."""
    frame = jpeg_frame(content)
    if frame is None or not _is_without_metadata(content[:HEAD].tobytes()):
        return None
    return ImageHeader("JPEG", frame.mode, 8, frame.height, frame.width, 1)


def _is_without_metadata(head: bytes) -> bool:
    """Whether the segments of a JPEG up to its first scan are all in `head`, and none is APP1 (EXIF, XMP).

    Segments are walked by their lengths: a thumbnail or comment may hold the bytes of any marker.
    """
    place = 2
    while head[place : place + 1] == b"\xff" and len(head) >= place + 4:
        marker = head[place + 1]
        if marker == SCAN:
            return True
        if marker in NOT_PLAIN:
            return False
        place += 2 + int.from_bytes(head[place + 2 : place + 4])
    return False


def _orientation(image: "Image") -> int:
    """EXIF's orientation, from EXIF or XMP, as `PIL.ImageOps.exif_transpose` reads it: other values are upright."""
    # The base class's getexif: that of a PNG would decode the pixels.
    value = _pillow().Image.getexif(image).get(ORIENTATION, 1)
    return next((number for number in range(2, 9) if number == value), 1)


def tiff_tag(image: "Image", tag: int) -> Any:
    """Value of a tag of a TIFF; None if the image has another format, or no such tag."""
    from PIL.TiffImagePlugin import TiffImageFile

    return image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None


def _bits(image: "Image") -> int:
    if image.mode == "1":
        return 1
    if image.mode in ("I", "F"):
        return 16 if image.format == "PPM" and image.mode == "I" else 32  # Pillow scales a PGM of two bytes to 0..65535
    if image.mode.startswith("I;16"):
        return max(tiff_tag(image, BITS_PER_SAMPLE) or (16,))  # a TIFF may have 12 of them
    return 8
