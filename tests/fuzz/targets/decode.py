"""Images as the loaders torch and resident, statistics and figures decode them."""

from pathlib import Path

from distdl.data.files import Unreadable, read
from distdl.data.storage import decode
from distdl.data.storage.image_header import read_header
from fuzz.images import assert_same, expected, seeds
from fuzz.run import Target


def check(folder: Path, name: str, content: bytes) -> None:
    """The pixels equal Pillow's, images that Pillow refuses are refused, and the header has the size of the pixels."""
    path = folder / name
    path.write_bytes(content)
    reference = expected(content)
    try:
        pixels = decode.decode(path, 3).permute(1, 2, 0).numpy()
    except Unreadable as error:
        assert reference is None, f"refused, but Pillow reads it: {error}"
        raise
    assert reference is not None, "read, but Pillow refuses it"
    assert_same(pixels, reference)
    assert decode.decode(path, 1).shape == (1, *pixels.shape[:2])
    header = read_header(path, read(path))
    assert sorted(header.upright) == sorted(pixels.shape[:2]), f"header {header.upright}, pixels {pixels.shape}"


TARGET = Target(seeds=seeds, check=check, share=20)
