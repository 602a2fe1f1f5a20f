"""Input of a DALI pipeline: an image's bytes and its crop window, in pixels of the upright image.

DALI decodes plain JPEGs only, and to the same pixels as the other loaders. All other images are decoded as in the torch
loader and are passed to DALI as bitmaps.
"""

from typing import NamedTuple

import numpy as np

from distdl.core.config import MAX_PIXELS
from distdl.data.files import File, read
from distdl.data.storage import decode
from distdl.data.storage.image_header import ORIENTATION, read_header
from distdl.data.storage.jpeg import is_jpeg, jpeg_frame

SOI, EOI, SOS, DHT, DQT, DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
BASELINE = (0xC0, 0xC1)
"""Markers of frames with one scan and Huffman codes."""
NEEDED_SEGMENTS = (DHT, DQT, DRI, 0xE0, 0xEE, *BASELINE)
"""Segments that decoding needs, including those of JFIF (E0) and Adobe (EE)."""
METADATA_SEGMENTS = (*range(0xE1, 0xEE), 0xEF, 0xFE)
"""Segments that are removed: EXIF, XMP, color profiles and comments."""


class DaliImage(NamedTuple):
    """One image, prepared for a pipeline."""

    content: np.ndarray
    """[n] uint8: a JPEG, or a bitmap if DALI cannot decode the image."""
    window: decode.Window


BLANK = DaliImage(np.frombuffer(b"P6\n1 1\n255\n\0\0\0", np.uint8), (0, 0, 1, 1))
"""Placeholder for a sample that is left out."""


def prepare(file: File, window: decode.WindowOf, channels: int, max_pixels: int = MAX_PIXELS) -> DaliImage:
    """Prepare an image for DALI to decode.

    Raises:
        Unreadable: the torch loader cannot read it either.
    """
    content = read(file)
    if is_jpeg(content):
        header = read_header(file, content, max_pixels)
        encoded = plain_jpeg(content, header.orientation) if channels == 3 or header.mode == "L" else None
        if encoded is not None:
            return DaliImage(encoded, window(*header.upright))
    return _decoded(file, content, window, channels, max_pixels)


def prepare_decoded(file: File, window: decode.WindowOf, channels: int, max_pixels: int = MAX_PIXELS) -> DaliImage:
    """Prepare the window of an image as a bitmap.

    Raises:
        Unreadable: the torch loader cannot read it either.
    """
    return _decoded(file, read(file), window, channels, max_pixels)


def _decoded(file: File, content: np.ndarray, window: decode.WindowOf, channels: int, max_pixels: int) -> DaliImage:
    image = decode.decode_content(file, content, channels, max_pixels)
    top, left_edge, height, width = window(image.shape[1], image.shape[2])
    pixels = image[:, top : top + height, left_edge : left_edge + width].permute(1, 2, 0).numpy()
    head = f"P{6 if channels == 3 else 5}\n{width} {height}\n255\n".encode()
    return DaliImage(np.frombuffer(head + pixels.tobytes(), np.uint8), (0, 0, height, width))


def plain_jpeg(content: np.ndarray, orientation: int) -> np.ndarray | None:
    """Reduce a JPEG [n] uint8 to the segments that DALI decodes exactly as libjpeg does.

    DALI decodes only the rows of the window, so it would miss damage behind them, where the other loaders report the
    file as unreadable: therefore the scan's markers are checked to the end. DALI interprets EXIF differently from
    Pillow, and two EXIF segments crash the process with SIGSEGV (DALI 2.4.0): therefore EXIF and other metadata are
    removed, and the orientation is written again.

    Args:
        orientation: the image's EXIF orientation, 1 to 8.
    Returns:
        [n] uint8, or None if the JPEG has more than one scan or is damaged.
    """
    if jpeg_frame(content) is None:
        return None
    pieces, position, piece_start, frames, components = [], 2, 2, 0, b""
    head = content[: 2**20].tobytes()  # single bytes of a numpy array are slow to read
    while True:
        if position + 4 > len(head) or head[position] != 0xFF:
            return None
        marker, end = head[position + 1], position + 2 + int.from_bytes(head[position + 2 : position + 4], "big")
        if marker in METADATA_SEGMENTS:
            pieces.append(content[piece_start:position])
            piece_start = end
        elif marker in BASELINE:
            frames, components = frames + 1, head[position + 9 : position + 10]
        elif marker == SOS:
            break
        elif marker not in NEEDED_SEGMENTS:
            return None
        position = end
    has_all_components = frames == 1 and head[position + 4 : position + 5] == components
    if not has_all_components or not _is_single_scan(content[position + 2 :]):
        return None
    if not pieces and orientation == 1:
        return content
    return np.concatenate([_start(orientation), *pieces, content[piece_start:]])


def _is_single_scan(scan: np.ndarray) -> bool:
    """Whether the first marker in an entropy-coded segment [n] uint8, except restarts, is the end of the image."""
    starts = np.flatnonzero(scan[:-1] == 0xFF)
    codes = scan[starts + 1]
    markers = codes[(codes != 0) & ((codes < 0xD0) | (codes > 0xD7))]
    return len(markers) > 0 and markers[0] == EOI


def _start(orientation: int) -> np.ndarray:
    """Return the first bytes of a JPEG: its start marker and, unless it is upright, EXIF with the orientation only."""
    start = bytes((0xFF, SOI))
    if orientation != 1:
        entry = ORIENTATION.to_bytes(2, "big") + bytes((0, 3, 0, 0, 0, 1, 0, orientation, 0, 0))
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
        start += b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    return np.frombuffer(start, np.uint8)
