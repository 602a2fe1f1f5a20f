"""DALI's pipelines on the CPU, compared with Pillow and numpy."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from numbered_sets import pictures

pytest.importorskip("nvidia.dali")
from distdl.data.loaders.dali_pipeline import PipelineSpec, build

IMAGES = pictures(3)
SPEC = PipelineSpec(batch=3, threads=1, depth=1, device_id=None, channels=3, size=None)


def encoded(image: np.ndarray) -> np.ndarray:
    with io.BytesIO() as sink:
        Image.fromarray(image).save(sink, "PPM")
        return np.frombuffer(sink.getvalue(), np.uint8)


WINDOWS = [(0, 0, 30, 40), (2, 5, 10, 12), (29, 39, 1, 1)]


def run(graph: PipelineSpec, mirror: list[int] | None = None) -> list[np.ndarray]:
    pipeline = build(graph)
    pipeline.feed_input("encoded", [encoded(image) for image in IMAGES])
    pipeline.feed_input("anchor", [np.array(window[:2], np.float32) for window in WINDOWS])
    pipeline.feed_input("shape", [np.array(window[2:], np.float32) for window in WINDOWS])
    if mirror is not None:
        pipeline.feed_input("mirror", [np.array(each, np.int32) for each in mirror])
    (output,) = pipeline.run()
    return [np.array(output[index]) for index in range(3)]


def cut(index: int) -> np.ndarray:
    top, left_edge, height, width = WINDOWS[index]
    return IMAGES[index][top : top + height, left_edge : left_edge + width]


def test_windows_are_cropped_in_rows_and_columns() -> None:
    for index, image in enumerate(run(SPEC)):
        assert image.dtype == np.uint8 and (image == cut(index)).all()


def test_gray_is_decoded_to_one_channel() -> None:
    first = run(replace(SPEC, channels=1))[0]
    expected = np.array(Image.fromarray(IMAGES[0]).convert("L"))
    assert first.shape == (30, 40, 1) and np.abs(first[..., 0].astype(int) - expected).max() <= 1


def test_windows_are_resized_as_in_pillow() -> None:
    for index, image in enumerate(run(replace(SPEC, size=8))):
        expected = Image.fromarray(cut(index)).resize((8, 8), Image.Resampling.BILINEAR)
        assert image.shape == (8, 8, 3)
        assert np.abs(image.astype(int) - np.array(expected)).mean() < 2  # without antialiasing it is above 6


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", np.float32), ("fp16", np.float16), ("bf16", np.float32)])
def test_images_are_mirrored_and_normalized(channels_last: bool, precision: str, dtype: type) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    graph = replace(SPEC, size=8, mean=mean, std=std, precision=precision, channels_last=channels_last)
    plain = run(replace(SPEC, size=8))
    for index, image in enumerate(run(graph, mirror=[0, 1, 1])):
        bytes_ = plain[index][:, ::-1] if index else plain[index]
        expected = (bytes_ / 255 - mean) / std
        expected = expected if channels_last else expected.transpose(2, 0, 1)
        assert image.dtype == dtype and np.allclose(image, expected, atol=2e-2 if dtype == np.float16 else 1e-2)
