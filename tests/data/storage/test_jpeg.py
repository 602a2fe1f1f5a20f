"""Headers and pixels of JPEGs by libjpeg-turbo."""

import io

import numpy as np
import pytest
from PIL import Image

from distdl.data.storage.jpeg import JpegFrame, decode_jpeg, is_jpeg, jpeg_frame


def encoded(mode: str, kind: str = "JPEG") -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels[..., : len(mode)], mode).save(sink, kind)
    return np.frombuffer(sink.getvalue(), np.uint8)


def test_the_signature() -> None:
    assert is_jpeg(encoded("RGB"))
    assert not is_jpeg(encoded("RGB", "PNG"))
    assert not is_jpeg(np.frombuffer(b"\xff", np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_size_mode_and_pixels_are_those_of_pillow(mode: str) -> None:
    content = encoded(mode)
    assert jpeg_frame(content) == JpegFrame(5, 7, mode)
    expected = np.asarray(Image.open(io.BytesIO(content.tobytes())))
    pixels = decode_jpeg(content, mode)
    assert pixels is not None and np.array_equal(pixels.squeeze(), expected)


def test_other_color_spaces_and_damaged_files_are_left_to_pillow() -> None:
    assert jpeg_frame(encoded("CMYK")) is None
    assert jpeg_frame(encoded("RGB", "PNG")) is None
    assert jpeg_frame(encoded("RGB")[:100]) is None
    assert decode_jpeg(encoded("RGB")[:-40], "RGB") is None
