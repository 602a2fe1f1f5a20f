"""Images as `distdl data export --format jpeg` re-encodes them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from distdl.data.storage.export import as_jpeg
from fuzz.images import expected, seeds
from fuzz.run import Target


def check(folder: Path, name: str, content: bytes) -> None:
    """The JPEG has the picture's shape and, within JPEG's loss, its pixels."""
    with Image.open(io.BytesIO(as_jpeg(content, 0, folder / name))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    reference = expected(content)
    assert reference is not None, "read, but Pillow refuses it"
    assert pixels.shape == reference.shape, f"shape {pixels.shape}, expected {reference.shape}"
    difference = abs(pixels.mean((0, 1)) - reference.mean((0, 1))).max()
    assert difference < 6, f"mean color differs by {difference:.1f}"


TARGET = Target(seeds=seeds, check=check, share=5)
