"""Photographs and unusual image files, compared with Pillow."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distdl.core.config import DataConfig
from distdl.data.augment.crops import central_window
from distdl.data.files import Unreadable
from distdl.data.sets.load import load
from distdl.data.storage import decode

WHOLE = partial(central_window, share=1.0)


@pytest.fixture
def photograph(data_root: Path) -> Path:
    return load(DataConfig(name="flowers", root=data_root, normalize="none")).train.files[3]


def pixels(image: Image.Image, size: int) -> np.ndarray:
    side = min(image.size)
    left_edge, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left_edge, top, left_edge + side, top + side)
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box), np.float32)


def difference(first: torch.Tensor | np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.asarray(first, np.float32) - other).mean())


@pytest.mark.parametrize("size", [32, 224])
def test_a_photograph_is_decoded_as_in_pillow(size: int, photograph: Path) -> None:
    actual = decode.load(photograph, 3, WHOLE, size)
    assert actual.shape == (size, size, 3) and actual.dtype == torch.uint8 and actual.is_contiguous()
    assert difference(actual, pixels(Image.open(photograph), size)) < 1.0


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "jpg"), ("CMYK", "jpg"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("1", "png"),
     ("RGB", "bmp"), ("RGB", "tif"), ("RGB", "webp"), ("P", "gif")],
)  # fmt: skip
def test_every_file_format_becomes_rgb_or_gray(mode: str, suffix: str, tmp_path: Path, photograph: Path) -> None:
    path = tmp_path / f"picture.{suffix}"
    with Image.open(photograph) as image:
        image.convert("RGB").convert(mode).save(path, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        expected = pixels(image, 64)
    assert difference(decode.load(path, 3, WHOLE, 64), expected) < 2.0
    gray = decode.load(path, 1, WHOLE, 64)
    assert gray.shape == (64, 64, 1)
    assert difference(gray[..., 0], expected @ (0.299, 0.587, 0.114)) < 2.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, tmp_path: Path, photograph: Path) -> None:
    from PIL import ImageOps

    path = tmp_path / "turned.jpg"
    with Image.open(photograph) as image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.crop((0, 0, 200, 120)).save(path, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"), np.float32)
    actual = decode.decode(path, 3).permute(1, 2, 0)
    assert actual.shape == expected.shape
    assert difference(actual, expected) < 1.0


def test_a_png_of_16_bits_keeps_its_upper_8(tmp_path: Path) -> None:
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for channels in (1, 3):
        actual = decode.decode(tmp_path / "deep.png", channels)
        assert (actual == torch.from_numpy((deep >> 8).astype(np.uint8))).all()


def test_an_image_of_one_pixel_fills_the_window(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 200, 30)).save(tmp_path / "dot.png")
    actual = decode.load(tmp_path / "dot.png", 3, WHOLE, 16)
    assert (actual == torch.tensor([10, 200, 30])).all()


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut", b"\x89PNG\r\n\x1a\n cut"])
def test_an_invalid_image_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=str(path)):
        decode.load(path, 3, WHOLE, 16)


def test_a_truncated_photograph_is_refused(tmp_path: Path, photograph: Path) -> None:
    path = tmp_path / "cut.jpg"
    content = photograph.read_bytes()
    for share in (0.2, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(Unreadable, match=str(path)):
            decode.load(path, 3, WHOLE, 16)
