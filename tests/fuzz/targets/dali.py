"""Images as loader dali feeds them to a pipeline; the pipeline decodes them if DALI is installed."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np

from distdl.data.files import Unreadable
from distdl.data.loaders import dali_input
from distdl.data.storage import decode
from fuzz import images
from fuzz.run import Target

INSTALLED = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def seeds(folder: Path) -> dict[str, bytes]:
    """JPEGs, which DALI decodes, and a PNG, which it receives as a bitmap."""
    if INSTALLED:
        importlib.import_module("distdl.data.loaders.dali_pipeline")  # once, before each input forks
    return {name: content for name, content in images.seeds(folder).items() if name.endswith("jpg") or "rgb" in name}


def window(height: int, width: int) -> decode.Window:
    """Middle quarter of an image; damage outside of it must also be detected."""
    return height // 4, width // 4, max(height // 2, 1), max(width // 2, 1)


def check(folder: Path, name: str, content: bytes) -> None:
    """Images that other loaders refuse are refused by `prepare` or the pipeline; all others have the same pixels."""
    path = folder / name
    path.write_bytes(content)
    try:
        pixels = decode.decode(path, 3)
    except Unreadable:
        pixels = None
    try:
        fed = dali_input.prepare(path, window, 3)
    except Unreadable as error:
        assert pixels is None, f"refused, but other loaders read it: {error}"
        raise
    if not INSTALLED:
        return
    decoded = _through_a_pipeline(fed)
    if decoded is None:  # the loader then reads it like the other loaders
        dali_input.prepare_decoded(path, window, 3)
        return
    assert pixels is not None, "read, but other loaders refuse it"
    y, x, height, width = window(*pixels.shape[1:])
    expected = pixels[:, y : y + height, x : x + width].permute(1, 2, 0).numpy().astype(int)
    images.assert_same(decoded, expected)


def _through_a_pipeline(fed: dali_input.DaliImage) -> np.ndarray | None:
    from distdl.data.loaders.dali_pipeline import PipelineSpec, build

    pipeline = build(PipelineSpec(batch=1, threads=1, depth=1, device_id=None, channels=3, size=None))
    inputs = {"encoded": [fed.content], "anchor": [fed.window[:2]], "shape": [fed.window[2:]]}
    for field, value in inputs.items():
        pipeline.feed_input(field, value if field == "encoded" else np.array(value, np.int32))
    try:
        pipeline._run_once()
        return np.array(pipeline.share_outputs()[0].as_array()[0])
    except RuntimeError:
        return None


TARGET = Target(seeds=seeds, check=check, share=1)
