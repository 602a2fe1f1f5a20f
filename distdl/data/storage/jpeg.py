"""Decoding of JPEGs by libjpeg-turbo through simplejpeg: the same pixels as Pillow's, at 1.4 times the speed.

benchmarks/decoders.py compares it with torchvision (deprecated since 0.29), torchcodec, OpenCV and Pillow.
"""

from typing import NamedTuple

import numpy as np

MODES = {"Gray": "L", "YCbCr": "RGB"}
"""Pillow's mode by libjpeg's color space. Other color spaces (RGB, CMYK, YCCK) depend on the Adobe marker: Pillow reads
them."""


class JpegFrame(NamedTuple):
    """A JPEG's size in pixels, and its mode in Pillow: L or RGB."""

    height: int
    width: int
    mode: str


def is_jpeg(content: np.ndarray) -> bool:
    """Whether the bytes [n] uint8 have the signature of a JPEG."""
    return content[:2].tobytes() == b"\xff\xd8"


def jpeg_frame(content: np.ndarray) -> JpegFrame | None:
    """Read the header of a JPEG [n] uint8; None unless it is a gray or YCbCr JPEG without warnings of libjpeg."""
    import simplejpeg

    if not is_jpeg(content):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content, strict=True)
    except ValueError:
        return None
    return JpegFrame(int(height), int(width), MODES[space]) if space in MODES else None


def decode_jpeg(content: np.ndarray, mode: str) -> np.ndarray | None:
    """Decode an undamaged JPEG.

    Args:
        content: [n] uint8, the file's bytes.
        mode: L for [height, width, 1], RGB for [height, width, 3].
    Returns:
        uint8 pixels, without applying the orientation; None for any error or warning of libjpeg: then Pillow decides
        whether the image is readable.
    """
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(
            content, "GRAY" if mode == "L" else "RGB", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError:
        return None
