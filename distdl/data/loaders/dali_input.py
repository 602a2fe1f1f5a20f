"""Input of a DALI pipeline: an image's bytes and the window that is cut from it, in the pixels of the upright image.

DALI decodes plain JPEGs only, to the pixels of every loader. All other images are decoded as the torch loader decodes
them, and are fed as bitmaps.
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
KEPT = (DHT, DQT, DRI, 0xE0, 0xEE, *BASELINE)
"""Segments that decoding needs; of the others only JFIF's (E0) and Adobe's (EE)."""
DROPPED = (*range(0xE1, 0xEE), 0xEF, 0xFE)


class Fed(NamedTuple):
    """One image, ready for a pipeline."""

    content: np.ndarray
    """[n] uint8: a JPEG, or a bitmap of what DALI does not read."""
    window: decode.Window


BLANK = Fed(np.frombuffer(b"P6\n1 1\n255\n\0\0\0", np.uint8), (0, 0, 1, 1))
"""Stands for a sample that is left out."""


def prepare(file: File, window: decode.WindowOf, channels: int, max_pixels: int = MAX_PIXELS) -> Fed:
    """Prepare an image for DALI to decode.

    Raises:
        Unreadable: the torch loader cannot read it either.
    """
    content = read(file)
    if is_jpeg(content):
        header = read_header(file, content, max_pixels)
        encoded = plain_jpeg(content, header.orientation) if channels == 3 or header.mode == "L" else None
        if encoded is not None:
            return Fed(encoded, window(*header.upright))
    return _decoded(file, content, window, channels, max_pixels)


def prepare_decoded(file: File, window: decode.WindowOf, channels: int, max_pixels: int = MAX_PIXELS) -> Fed:
    """Prepare the window of an image as a bitmap.

    Raises:
        Unreadable: the torch loader cannot read it either.
    """
    return _decoded(file, read(file), window, channels, max_pixels)


def _decoded(file: File, content: np.ndarray, window: decode.WindowOf, channels: int, max_pixels: int) -> Fed:
    image = decode.decode_content(file, content, channels, max_pixels)
    top, left_edge, height, width = window(image.shape[1], image.shape[2])
    pixels = image[:, top : top + height, left_edge : left_edge + width].permute(1, 2, 0).numpy()
    head = f"P{6 if channels == 3 else 5}\n{width} {height}\n255\n".encode()
    return Fed(np.frombuffer(head + pixels.tobytes(), np.uint8), (0, 0, height, width))


def plain_jpeg(content: np.ndarray, orientation: int) -> np.ndarray | None:
    """Reduce a JPEG [n] uint8 to what DALI decodes as libjpeg does; None if it has more than one scan or is damaged.

    DALI decodes the window's rows only. A damage behind them would pass, and the other loaders would not read the file:
    so the scan's markers are checked to the end. DALI's reading of EXIF differs from Pillow's, and two EXIF segments
    end the process by SIGSEGV (2.4.0): so EXIF and other metadata are dropped, and the orientation is written again.
    """
    if jpeg_frame(content) is None:
        return None
    pieces, at, kept_from, frames, components = [], 2, 2, 0, b""
    head = content[: 2**20].tobytes()  # its bytes are looked at one by one, which numpy does slowly
    while True:
        if at + 4 > len(head) or head[at] != 0xFF:
            return None
        marker, end = head[at + 1], at + 2 + int.from_bytes(head[at + 2 : at + 4], "big")
        if marker in DROPPED:
            pieces.append(content[kept_from:at])
            kept_from = end
        elif marker in BASELINE:
            frames, components = frames + 1, head[at + 9 : at + 10]
        elif marker == SOS:
            break
        elif marker not in KEPT:
            return None
        at = end
    if frames != 1 or head[at + 4 : at + 5] != components or not _one_scan(content[at + 2 :]):
        return None
    if not pieces and orientation == 1:
        return content
    return np.concatenate([_start(orientation), *pieces, content[kept_from:]])


def _one_scan(scan: np.ndarray) -> bool:
    """Whether the first marker in an entropy-coded segment [n] uint8, restarts left out, is the end of the image."""
    marks = np.flatnonzero(scan[:-1] == 0xFF)
    codes = scan[marks + 1]
    markers = codes[(codes != 0) & ((codes < 0xD0) | (codes > 0xD7))]
    return len(markers) > 0 and markers[0] == EOI


def _start(orientation: int) -> np.ndarray:
    """First bytes of a JPEG: its mark and, unless it is upright, EXIF with the orientation and nothing else."""
    start = bytes((0xFF, SOI))
    if orientation != 1:
        entry = ORIENTATION.to_bytes(2, "big") + bytes((0, 3, 0, 0, 0, 1, 0, orientation, 0, 0))
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
        start += b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    return np.frombuffer(start, np.uint8)
