"""Images that the torch and resident loaders decode."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from distdl.data import decode
from fuzz.run import Target


def seeds(_folder: Path) -> dict[str, bytes]:
    """One small photograph-like image in each format."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    files = {}
    for name, options in {"rgb.png": {}, "photo.jpg": {"quality": 90}}.items():
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, {"png": "PNG", "jpg": "JPEG"}[name.partition(".")[2]], **options)
        files[name] = sink.getvalue()
    return files


def check(folder: Path, name: str, content: bytes) -> None:
    """The pixels are Pillow's, within what JPEG decoders may differ."""
    (folder / name).write_bytes(content)
    ours = decode.decode(folder / name, 3).permute(1, 2, 0).numpy().astype(int)
    theirs = np.asarray(Image.open(folder / name).convert("RGB")).astype(int)
    assert ours.shape == theirs.shape, f"shape {ours.shape}, Pillow {theirs.shape}"
    assert abs(ours - theirs).mean() <= 1, f"mean difference {abs(ours - theirs).mean():.1f}"


TARGET = Target(seeds=seeds, check=check, share=20)
