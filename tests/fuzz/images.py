"""Encoded images as seeds, and their expected pixels by Pillow."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from distdl.data.storage.image_header import FORMATS
from numbered_sets import pictures


def seeds(_folder: Path) -> dict[str, bytes]:
    """One picture of 40 x 60 pixels in each supported format, mode and encoding."""
    first, second = (Image.fromarray(image) for image in pictures(2, 40, 60))
    gray16 = Image.fromarray(np.asarray(first.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "baseline.jpg": (first, {"quality": 90}),
        "progressive.jpg": (first, {"progressive": True}),
        "restart.jpg": (first, {"restart_marker_blocks": 4}),
        "gray.jpg": (first.convert("L"), {}),
        "cmyk.jpg": (first.convert("CMYK"), {}),
        "turned.jpg": (first, {"exif": exif}),
        "rgb.png": (first, {}),
        "palette.png": (first.convert("P"), {}),
        "clear.png": (first.convert("RGBA"), {}),
        "gray16.png": (gray16, {}),
        "turned.png": (first, {"exif": exif}),
        "lossy.webp": (first, {"exif": exif}),
        "lossless.webp": (first, {"lossless": True}),
        "moving.gif": (first, {"save_all": True, "append_images": [second]}),
        "color.bmp": (first, {}),
        "palette.bmp": (first.convert("P"), {}),
        "plain.tif": (first, {"exif": exif}),
        "lzw.tif": (first, {"compression": "tiff_lzw"}),
        "jpeg.tif": (first, {"compression": "jpeg"}),
        "gray16.tif": (gray16, {}),
        "color.ppm": (first, {}),
        "lossy.avif": (first, {}),
        "color.jp2": (first, {}),
        "icon.ico": (first, {"sizes": [(48, 32)]}),
    }
    files = {name: encode(image, name, **options) for name, (image, options) in kinds.items()}
    files["interlaced.png"] = interlaced(np.asarray(first))
    return files


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    """Encode an image in the format of the name's suffix."""
    sink = io.BytesIO()
    image.save(sink, Image.registered_extensions()[Path(name).suffix], **options)
    return sink.getvalue()


def interlaced(pixels: np.ndarray) -> bytes:
    """Encode [height, width, 3] uint8 as an interlaced PNG (Adam7), which Pillow reads but does not write."""
    import struct
    import zlib

    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [row for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def expected(content: bytes) -> np.ndarray | None:
    """Expected pixels [height, width, 3] int of an encoded image; None if it should be refused.

    They are Pillow's, except where Pillow is wrong: it clips 16-bit gray, and 32-bit modes have no scale.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            wide = image.format == "PPM" and upright.mode == "I"
            if wide or upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if upright.mode in ("I", "F"):
                return None
            return np.asarray(upright.convert("RGB")).astype(int)
    except Exception:
        return None


def assert_same(pixels: np.ndarray, reference: np.ndarray, mean: float = 0.0, most: int = 0) -> None:
    """Fail if pixels [height, width, 3] differ by more than `mean` on average or `most` anywhere."""
    assert pixels.shape == reference.shape, f"shape {pixels.shape}, expected {reference.shape}"
    difference = abs(pixels.astype(int) - reference)
    assert difference.mean() <= mean and difference.max() <= most, (
        f"difference {difference.mean():.2f} on average, {difference.max()} at most"
    )
