"""Input of DALI: JPEGs without metadata, windows, and bitmaps of all other formats, compared with Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image, ImageOps

from distdl.data.files import Part, Unreadable
from distdl.data.loaders.dali_input import BLANK, plain_jpeg, prepare, prepare_decoded
from numbered_sets import pictures

PICTURE = pictures(1)[0]


def jpeg(image: np.ndarray = PICTURE, **options: object) -> np.ndarray:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "JPEG", **options)
    return np.frombuffer(sink.getvalue(), np.uint8)


def exif(orientation: int) -> bytes:
    entries = Image.Exif()
    entries[0x0112] = orientation
    entries[0x010E] = "a description"
    return entries.tobytes()


def opened(content: np.ndarray) -> Image.Image:
    return Image.open(io.BytesIO(content.tobytes()))


def upright(content: np.ndarray) -> np.ndarray:
    return np.array(ImageOps.exif_transpose(opened(content)))


PLAIN = jpeg()


def test_a_plain_jpeg_is_passed_unchanged() -> None:
    assert plain_jpeg(PLAIN, 1) is PLAIN


def test_the_segments_that_decoding_needs_are_kept() -> None:
    for content in (jpeg(subsampling=0), jpeg(quality=95, optimize=True), jpeg(PICTURE[..., 0])):
        assert plain_jpeg(content, 1) is content


@pytest.mark.parametrize("options", [{"comment": b"text"}, {"icc_profile": b"profile"}, {"exif": exif(1)}])
def test_metadata_is_dropped(options: dict[str, bytes]) -> None:
    content = jpeg(**options)
    assert len(content) > len(PLAIN)
    assert plain_jpeg(content, 1).tobytes() == PLAIN.tobytes()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_only_the_orientation_is_written_back(orientation: int) -> None:
    content = jpeg(exif=exif(orientation), comment=b"text")
    plain = plain_jpeg(content, orientation)
    assert dict(opened(plain).getexif()) == {0x0112: orientation}
    assert opened(plain).info.keys() & {"comment", "icc_profile"} == set()
    assert (upright(plain) == upright(content)).all()
    assert plain_jpeg(plain, orientation).tobytes() == plain.tobytes()


def test_two_exif_segments_become_one() -> None:
    segment = exif(6)
    head = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    content = np.frombuffer(b"\xff\xd8" + head + head + PLAIN[2:].tobytes(), np.uint8)
    assert plain_jpeg(content, 6).tobytes().count(b"Exif") == 1


def test_other_kinds_of_jpegs_are_not_plain() -> None:
    assert plain_jpeg(jpeg(progressive=True), 1) is None
    with io.BytesIO() as sink:
        Image.fromarray(PICTURE).convert("CMYK").save(sink, "JPEG")
        assert plain_jpeg(np.frombuffer(sink.getvalue(), np.uint8), 1) is None
    assert plain_jpeg(np.frombuffer(b"\x89PNG\r\n", np.uint8), 1) is None


def segments(content: np.ndarray) -> list[bytes]:
    """Segments before the scan, with their markers; then the rest."""
    data, at, parts = content.tobytes(), 2, []
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


def test_a_jpeg_with_two_frames_is_not_plain() -> None:
    *head, scan = segments(PLAIN)
    (frame,) = (part for part in head if part[1] == 0xC0)
    content = np.frombuffer(b"\xff\xd8" + b"".join([*head, frame, scan]), np.uint8)
    assert plain_jpeg(content, 1) is None


def test_a_jpeg_with_a_scan_per_component_is_not_plain() -> None:
    """A baseline JPEG may have one scan per component; DALI reads only the first."""
    *head, scan = segments(PLAIN)
    luma = b"\xff\xda" + (8).to_bytes(2, "big") + b"\x01" + scan[5:7] + scan[11:14]
    content = np.frombuffer(b"\xff\xd8" + b"".join([*head, luma + scan[14:]]), np.uint8)
    assert plain_jpeg(content, 1) is None


@settings(max_examples=60)
@given(some.integers(0, len(PLAIN) - 1))
def test_a_truncated_jpeg_is_not_plain(length: int) -> None:
    assert plain_jpeg(PLAIN[:length], 1) is None


def scan_start(content: np.ndarray) -> int:
    at = content.tobytes().index(b"\xff\xda")
    return at + 2 + int.from_bytes(content[at + 2 : at + 4].tobytes(), "big")


@pytest.mark.parametrize(
    ("mark", "is_plain"), [(b"\xff\xc4", False), (b"\xff\xda", False), (b"\xff\xd9", True), (b"\xff\x00", True)]
)
def test_only_the_end_of_the_image_may_follow_a_scan(mark: bytes, is_plain: bool) -> None:
    """DALI stops at the window's last row; other loaders would detect damage after it."""
    changed = PLAIN.copy()
    middle = (scan_start(PLAIN) + len(PLAIN)) // 2
    changed[middle : middle + 2] = np.frombuffer(mark, np.uint8)
    assert (plain_jpeg(changed, 1) is not None) == is_plain


def test_bytes_after_the_end_of_the_image_are_ignored() -> None:
    more = np.concatenate([PLAIN, np.frombuffer(b"a trailer \xff\xc4", np.uint8)])
    assert plain_jpeg(more, 1) is not None


def window(height: int, width: int) -> tuple[int, int, int, int]:
    """Return an off-center window, so that swapped rows and columns are detected."""
    return 2, 5, height - 4, width - 9


def stored(folder: Path, content: bytes) -> Path:
    (folder / "image").write_bytes(content)
    return folder / "image"


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_window_of_a_jpeg_refers_to_the_upright_image(orientation: int, tmp_path: Path) -> None:
    fed = prepare(stored(tmp_path, jpeg(exif=exif(orientation)).tobytes()), window, 3)
    height, width = (40, 30) if orientation == 6 else (30, 40)
    assert fed.window == (2, 5, height - 4, width - 9)
    assert fed.content[:2].tobytes() == b"\xff\xd8" and b"description" not in fed.content.tobytes()


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_another_format_becomes_a_bitmap_of_its_window(channels: int, mode: str, tmp_path: Path) -> None:
    with io.BytesIO() as sink:
        Image.fromarray(PICTURE).save(sink, "PNG")
        file = stored(tmp_path, sink.getvalue())
    fed = prepare(file, window, channels)
    expected = np.array(Image.fromarray(PICTURE).convert(mode))[2:28, 5:36]
    assert fed.window == (0, 0, 26, 31) and opened(fed.content).mode == mode
    assert (np.array(opened(fed.content)) == expected).all()
    again = prepare_decoded(file, window, channels)
    assert again.content.tobytes() == fed.content.tobytes() and again.window == fed.window


@pytest.mark.parametrize(("gray", "channels", "is_jpeg"), [(True, 1, True), (True, 3, True), (False, 1, False)])
def test_a_color_jpeg_becomes_gray_as_in_pillow(gray: bool, channels: int, is_jpeg: bool, tmp_path: Path) -> None:
    content = jpeg(PICTURE[..., 0] if gray else PICTURE).tobytes()
    fed = prepare(stored(tmp_path, content), window, channels)
    assert (fed.content[:2].tobytes() == b"\xff\xd8") == is_jpeg


def test_a_part_of_a_file_is_prepared_like_a_file(tmp_path: Path) -> None:
    file = stored(tmp_path, b"before" + PLAIN.tobytes() + b"behind")
    assert prepare(Part(file, 6, len(PLAIN)), window, 3).content.tobytes() == PLAIN.tobytes()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    for content in (b"text", b"", PLAIN[:200].tobytes()):
        for function in (prepare, prepare_decoded):
            with pytest.raises(Unreadable, match="image"):
                function(stored(tmp_path, content), window, 3)
    with pytest.raises(Unreadable, match="image"):
        prepare(stored(tmp_path, PLAIN.tobytes()), window, 3, max_pixels=30 * 40 - 1)
    assert prepare(stored(tmp_path, PLAIN.tobytes()), window, 3, max_pixels=30 * 40).window


def test_the_blank_is_one_black_pixel() -> None:
    assert np.array(opened(BLANK.content)).tolist() == [[[0, 0, 0]]] and BLANK.window == (0, 0, 1, 1)
