"""Images of every format, orientation and depth: the pixels of every loader are compared with Pillow's."""

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from distdl.core.config import Config, DataConfig
from distdl.core.errors import Failure, UserError
from distdl.data.augment.crops import central_window
from distdl.data.dataset import Batch, DataSet, EncodedSplit
from distdl.data.files import Unreadable, read
from distdl.data.loaders import make_loader
from distdl.data.sets.load import load
from distdl.data.storage import decode, folders
from distdl.data.storage.export import as_jpeg, export
from distdl.data.storage.image_header import read_header
from distdl.data.storage.pack import pack
from distdl.runtime.world import World
from fuzz.images import encode
from numbered_sets import numbered, pictures

LOADERS = ("resident", "torch", "dali")
ORIENTATIONS = range(1, 9)
BAD = re.compile(r"^[^\n]+$")
each_loader = pytest.mark.parametrize("loader", LOADERS)


def picture(height: int = 40, width: int = 64) -> Image.Image:
    return Image.fromarray(pictures(1, height, width)[0])


def exif(orientation: int) -> Image.Exif:
    entries = Image.Exif()
    entries[0x0112] = orientation
    return entries


def xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


THUMBNAIL = encode(picture(12, 16), "x.jpg")
"""A JPEG inside a segment: its markers do not belong to the file."""


def segment(body: bytes, marker: int = 0xE1) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def entry(order: str, kind: int, count: int, value: bytes) -> bytes:
    """An APP1 segment with the orientation tag, of any type."""
    mark = {">": b"MM\0*", "<": b"II*\0"}[order]
    tag = struct.pack(f"{order}HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return segment(b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 1) + tag + bytes(4))


def with_segments(*segments: bytes, **options: object) -> bytes:
    content = encode(picture(), "x.jpg", quality=95, **options)
    return content[:2] + b"".join(segments) + content[2:]


def oriented() -> dict[str, bytes]:
    """Files with the orientation in each container, including forms that Pillow ignores."""
    short = [entry(">", 3, 1, struct.pack(">H", number)) for number in ORIENTATIONS]
    named_xmp = segment(b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))
    files = {
        "long-big.jpg": with_segments(entry(">", 4, 1, struct.pack(">I", 6))),
        "long-little.jpg": with_segments(entry("<", 4, 1, struct.pack("<I", 8))),
        "ascii.jpg": with_segments(entry(">", 2, 2, b"6\0")),
        "byte.jpg": with_segments(entry(">", 1, 1, b"\6")),
        "undefined.jpg": with_segments(entry(">", 7, 1, b"\6")),
        "two-shorts.jpg": with_segments(entry(">", 3, 2, struct.pack(">HH", 6, 6))),
        "nine.jpg": with_segments(entry(">", 3, 1, struct.pack(">H", 9))),
        "zero.jpg": with_segments(entry(">", 3, 1, bytes(2))),
        "exif-after-xmp.jpg": with_segments(segment(b"http://ns.adobe.com/xap/1.0/\0<x/>"), short[5]),
        "xmp-only.jpg": with_segments(named_xmp),
        "exif-and-xmp.jpg": with_segments(short[2], named_xmp),
        "exif-twice.jpg": with_segments(short[2], short[4]),
        "exif-after-thumbnail.jpg": with_segments(segment(b"JFXX\0\x10" + THUMBNAIL, 0xE0), short[5]),
        "exif-after-resources.jpg": with_segments(segment(b"Photoshop 3.0\0" + THUMBNAIL, 0xED), short[5]),
        "exif-after-comment.jpg": with_segments(segment(b"x\xff\xday", 0xFE), short[5]),
        "exif-after-profile.jpg": with_segments(segment(b"ICC_PROFILE\0\1\1" + b"\xff\xda" * 4, 0xE2), short[5]),
        "exif-in-comment.jpg": with_segments(segment(short[5], 0xFE)),
        "exif-far-away.jpg": with_segments(segment(bytes(5000), 0xFE), short[5]),
        "exif-after-fill.jpg": with_segments(b"\xff\xff", short[5]),
        "xmp.png": encode(picture(), "x.png", pnginfo=_itxt(xmp(6))),
        "exif-after-pixels.png": _exif_last(6),
    }
    for number in ORIENTATIONS:
        for name, options in {
            "baseline.jpg": {"quality": 95},
            "progressive.jpg": {"quality": 95, "progressive": True},
            "plain.png": {},
            "lossless.webp": {"lossless": True},
            "lossy.webp": {},
            "lzw.tif": {"compression": "tiff_lzw"},
            "lossy.avif": {},
        }.items():
            files[f"{number}-{name}"] = encode(picture(), name, exif=exif(number), **options)
        files[f"{number}-gray.jpg"] = encode(picture().convert("L"), "x.jpg", exif=exif(number), quality=95)
        files[f"{number}-cmyk.jpg"] = encode(picture().convert("CMYK"), "x.jpg", exif=exif(number), quality=95)
    return files


def _itxt(text: bytes) -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text.decode())
    return info


def _exif_last(orientation: int) -> bytes:
    content = encode(picture(), "x.png")
    body = b"eXIf" + exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:-12] + chunk + content[-12:]


def kinds() -> dict[str, bytes]:
    """Files in all other modes and encodings."""
    image = picture()
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(pictures(2, 40, 64)[1, ..., 0]))
    gif = image.quantize(32)
    return {
        "palette.png": encode(image.quantize(64), "x.png"),
        "clear-palette.png": encode(image.quantize(64), "x.png", transparency=3),
        "clear.png": encode(clear, "x.png"),
        "clear-gray.png": encode(clear.convert("LA"), "x.png"),
        "text.png": encode(image, "x.png", pnginfo=_text("long" * 2**19)),
        "bits.png": encode(image.convert("1"), "x.png"),
        "clear.gif": encode(gif, "x.gif", transparency=5),
        "moving.gif": encode(gif, "x.gif", save_all=True, append_images=[picture().rotate(180).quantize(32)]),
        "clear.webp": encode(clear, "x.webp"),
        "cmyk-adobe.jpg": encode(image.convert("CMYK"), "x.jpg"),
        "cmyk-plain.jpg": _without_adobe(encode(image.convert("CMYK"), "x.jpg")),
        "444.jpg": encode(image, "x.jpg", subsampling=0),
        "422.jpg": encode(image, "x.jpg", subsampling=1),
        "rgb.jpg": encode(image, "x.jpg", keep_rgb=True),
        "restart.jpg": encode(image, "x.jpg", restart_marker_blocks=2),
        "padded.jpg": encode(image, "x.jpg") + bytes(100),
        "two.jpg": encode(image, "x.jpg") + encode(image.rotate(180), "x.jpg"),
        "extra-bytes.jpg": encode(image, "x.jpg")[:-2] + b"\1\2\3\xff\xd9",
        "color.bmp": encode(image, "x.bmp"),
        "color.jp2": encode(image, "x.jp2"),
        "cmyk.tif": encode(image.convert("CMYK"), "x.tif"),
        "icon.ico": encode(image, "x.ico", sizes=[(64, 40)]),
        "gray.pgm": encode(image.convert("L"), "x.pgm"),
        "dot.png": encode(image.crop((0, 0, 1, 1)), "x.png"),
        "line.jpg": encode(picture(1, 300), "x.jpg"),
    }


def _text(text: str) -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", text, zip=True)
    return info


def _without_adobe(content: bytes) -> bytes:
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]


def written(folder: Path, files: dict[str, bytes]) -> list[Path]:
    paths = [folder / name for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    return paths


def set_of(files: list[Path], channels: int = 3) -> DataSet:
    split = EncodedSplit(files=files, labels=np.arange(len(files)))
    names = tuple(file.name for file in files)
    return DataSet(name="odd", classes=names, train=split, test=split, image_size=24, channels=channels,
                   mean=(0.0,) * channels, std=(1.0,) * channels)  # fmt: skip


def batches_of(loader: str, dataset: DataSet, training: bool = False, **data: object) -> list[Batch]:
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    workers = 2 if loader == "dali" else 0
    config = Config(data=DataConfig(**{"loader": loader, "workers": workers, "batch_size": 16, **data}))
    built_loader = make_loader(config, dataset, dataset.train, World(), training=training)
    try:
        return [replace(batch, images=batch.images.clone()) for batch in built_loader.epoch(0)]
    finally:
        built_loader.close()


def upright(content: bytes, mode: str) -> np.ndarray:
    """Pillow's pixels [height, width, channels]."""
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.array(ImageOps.exif_transpose(image).convert(mode))
    return pixels.reshape(*pixels.shape[:2], len(mode))


def loaded(pixels: np.ndarray) -> torch.Tensor:
    """The image as a loader delivers it: its central square, resized."""
    row, column, height, width = central_window(*pixels.shape[:2], share=1.0)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    return decode.resize(image[:, row : row + height, column : column + width], 24)


@each_loader
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore:Metadata Warning, tag 274:UserWarning")  # Pillow's, of two-shorts.jpg
@pytest.mark.parametrize("files", [oriented, kinds])
def test_every_loader_gives_pillows_pixels(
    files: Callable[[], dict[str, bytes]], channels: int, loader: str, tmp_path: Path
) -> None:
    contents = files()
    dataset = set_of(written(tmp_path, contents), channels)
    images = torch.cat([batch.images for batch in batches_of(loader, dataset)]) * 255
    mode = "RGB" if channels == 3 else "L"
    expected = torch.stack([loaded(upright(content, mode)) for content in contents.values()]).float()
    differences = (images - expected).abs().amax((1, 2, 3)).tolist()
    assert {name: value for name, value in zip(contents, differences, strict=True) if value > 0.01} == {}


@pytest.mark.filterwarnings("ignore:Metadata Warning, tag 274:UserWarning")
@pytest.mark.parametrize("files", [oriented, kinds])
def test_headers_and_exports_agree_with_the_pixels(files: Callable[[], dict[str, bytes]], tmp_path: Path) -> None:
    for file in written(tmp_path, files()):
        pixels = upright(file.read_bytes(), "RGB")
        if file.name != "exif-after-pixels.png":  # its orientation is after the pixels, not in the header
            assert read_header(file, read(file)).upright == pixels.shape[:2], file.name
        exported = upright(as_jpeg(file.read_bytes(), 0), "RGB")
        assert exported.shape == pixels.shape, file.name
        assert abs(exported.mean((0, 1)) - pixels.mean((0, 1))).max() < 4, file.name


RAMP = np.linspace(0, 65535, 64 * 40).astype(np.uint16).reshape(40, 64)


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "pgm"])
def test_16_bit_gray_keeps_its_upper_8_bits_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(RAMP).save(path)
    for channels in (1, 3):
        assert (decode.decode(path, channels).numpy() == RAMP >> 8).all()
    exported = upright(as_jpeg(path.read_bytes(), 0), "L")[..., 0]
    assert abs(exported.astype(int) - (RAMP >> 8)).mean() < 2


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_whose_zero_is_white_is_inverted(depth: int, compression: str, tmp_path: Path) -> None:
    path, gray = tmp_path / "white.tif", RAMP >> (16 - depth)
    Image.fromarray(gray.astype(f"uint{depth}")).save(path, compression=compression)
    photometric = struct.pack("<HHI", 262, 3, 1)
    content = path.read_bytes()
    assert content.count(photometric + b"\1") == 1
    path.write_bytes(content.replace(photometric + b"\1", photometric + b"\0"))
    assert (decode.decode(path, 1).numpy() == 255 - (RAMP >> 8)).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_images_are_refused_with_advice(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "deep.tif")
    for read_it in (
        lambda: decode.decode(tmp_path / "deep.tif", 3),
        lambda: as_jpeg((tmp_path / "deep.tif").read_bytes(), 0, tmp_path / "deep.tif"),
    ):
        with pytest.raises(Unreadable, match=r"deep\.tif has 32 bits per pixel \(mode [IF]\): scale it to 8 or 16"):
            read_it()


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels and has none."""
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(50_000))
    for read_it in (decode.decode, lambda file, _: read_header(file, read(file))):
        with pytest.raises(Unreadable, match=r"bomb\.png has more pixels than data.max_pixels 178,956,970"):
            read_it(tmp_path / "bomb.png", 3)


@each_loader
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_max_pixels_holds_in_every_loader(suffix: str, loader: str, tmp_path: Path) -> None:
    contents = {f"{side}.{suffix}": encode(picture(side, side), f"x.{suffix}") for side in (20, 40, 20)}
    dataset = set_of(written(tmp_path, contents))
    bounds = {"max_pixels": 40 * 40 - 1, "on_error": "raise"}
    with pytest.raises(UserError, match=rf"40\.{suffix} has 40 x 40 pixels, more than data.max_pixels 1,599"):
        batches_of(loader, dataset, **bounds)
    assert sum(batch.count for batch in batches_of(loader, dataset, max_pixels=40 * 40)) == 2


def damaged(kind: str) -> bytes:
    """A file with one kind of damage."""
    png, jpeg = encode(picture(), "x.png"), bytearray(encode(picture(), "x.jpg", quality=90))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 4
    avif = encode(picture(), "x.avif")
    tables = jpeg.index(b"\xff\xc4")
    end = jpeg.index(b"\xff\xda") + 300
    return {
        "png with a flipped bit": bytes(flipped),
        "png cut short": png[: len(png) // 2],
        "jpeg cut short": bytes(jpeg[: len(jpeg) // 2]),
        "jpeg with a bad table": bytes(jpeg[: tables + 5] + b"\xff" * 16 + jpeg[tables + 21 :]),
        "jpeg with a stray marker": bytes(jpeg[:end] + b"\xff\xc4\0\0" + jpeg[end + 4 :]),
        "avif cut short": avif[: len(avif) // 2],
        "bomb": bomb(50_000),
        "text": b"<html>not found</html>",
        "nothing": b"",
    }[kind]


DAMAGES = ("png with a flipped bit", "png cut short", "jpeg cut short", "jpeg with a bad table",
           "jpeg with a stray marker", "avif cut short", "bomb", "text", "nothing")  # fmt: skip


@each_loader
def test_every_kind_of_damage_is_unreadable_in_every_loader(loader: str, tmp_path: Path) -> None:
    contents = {f"{place}.jpg": damaged(kind) for place, kind in enumerate(DAMAGES)}
    good = {f"good-{place}.jpg": encode(picture(), "x.jpg") for place in range(3)}
    dataset = set_of(written(tmp_path, contents | good))
    (batch,) = batches_of(loader, dataset, on_error="skip", eval_batch_size=16)
    assert batch.count == 3
    assert batch.labels[:3].tolist() == [9, 10, 11]
    for file, kind in zip(dataset.train.files, DAMAGES, strict=False):
        with pytest.raises(Unreadable, match=re.escape(str(file))) as raised:
            decode.decode(file, 3)
        assert BAD.match(str(raised.value)), kind
        with pytest.raises(UserError, match=r"--data.on-error skip") as refused:
            batches_of(loader, replace(dataset, train=dataset.train[np.array([dataset.train.files.index(file), 9])]))
        assert BAD.match(str(refused.value)), kind


@each_loader
@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_omits_unreadable_samples(loader: str, world: int, tmp_path: Path) -> None:
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    dataset = numbered("files", 23, tmp_path)
    clean = {}
    for bad in ((), (0, 4, 5, 22)):
        for number in bad:
            dataset.train.files[number].write_bytes(damaged("png with a flipped bit"))
        labels, steps, sentences = [], set(), set()
        for rank in range(world):
            config = Config(data=DataConfig(loader=loader, workers=0, eval_batch_size=2, on_error="skip"))
            built_loader = make_loader(config, dataset, dataset.train, World(rank=rank, size=world), training=False)
            batches = [replace(batch, images=batch.images.clone()) for batch in built_loader.epoch(0)]
            built_loader.close()
            steps.add(len(batches))
            sentences.update(built_loader.skipped)  # a resident rank decodes the whole set
            for batch in batches:
                labels += batch.labels[: batch.count].tolist()
                for label, image in zip(batch.labels[: batch.count].tolist(), batch.images, strict=False):
                    assert torch.equal(clean.setdefault(label, image), image)
        assert sorted(labels) == sorted(set(range(23)) - set(bad))
        assert steps == {-(-23 // (2 * world))}
        assert len(sentences) == len(bad) and all("left out of the evaluation" in line for line in sentences)


def test_dalis_pixels_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    contents = {f"{place}.jpg": damaged(kind) for place, kind in enumerate(DAMAGES)}
    contents |= {name: content for name, content in oriented().items() if name.endswith("jpg")}
    dataset = set_of(written(tmp_path, contents))
    pixels = []
    for batch_size in (1, 5, 64):
        batches = batches_of("dali", dataset, eval_batch_size=batch_size, on_error="skip")
        seen_images: dict[int, torch.Tensor] = {}
        for batch in batches:
            seen_images |= dict(zip(batch.labels[: batch.count].tolist(), batch.images, strict=False))
        pixels.append(seen_images)
    for other in pixels[1:]:
        assert other.keys() == pixels[0].keys()
        assert all(torch.equal(image, pixels[0][label]) for label, image in other.items())


@pytest.mark.parametrize("kind", ["jpeg cut short", "png with a flipped bit", "text"])
def test_an_export_names_or_omits_unreadable_files(kind: str, tmp_path: Path) -> None:
    dataset = numbered("files", 9, tmp_path)
    dataset.train.files[8].write_bytes(damaged(kind))
    with pytest.raises(UserError, match=r"008\.jpg .*--on-error skip") as raised:
        export(dataset, tmp_path / "out", 16, lambda _: None)
    assert BAD.match(str(raised.value))
    bad: list[Unreadable] = []
    assert export(dataset, tmp_path / "out", 16, lambda _: None, bad.append).images == 15
    assert len(bad) == 1 and "008.jpg" in str(bad[0])
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 15


def test_packing_omits_unreadable_files(tmp_path: Path) -> None:
    dataset = numbered("files", 9, tmp_path)
    dataset.train.files[8].write_text("not an image")
    with pytest.raises(UserError, match=r"008\.jpg .*--on-error skip"):
        pack(dataset, tmp_path / "one", "shards", 10**6, lambda _: None)
    result = pack(dataset, tmp_path / "two", "shards", 10**6, lambda _: None, lambda _: None)
    assert [shard.samples for shard in result.described.shards()] == [8, 7]


def test_statistics_follow_on_error(tmp_path: Path) -> None:
    from distdl.data.sets import statistics

    dataset = numbered("files", 9, tmp_path)
    dataset.train.files[8].write_bytes(damaged("png with a flipped bit"))
    measure = partial(statistics.of_files, dataset.train, 3, 1.0, 24)
    with pytest.raises(UserError, match=r"008\.jpg .*on-error skip"):
        measure(DataConfig())
    mean, _ = measure(DataConfig(on_error="skip"))
    expected = statistics.of_files(dataset.train[np.arange(8)], 3, 1.0, 24, DataConfig())[0]
    assert mean == expected
    with pytest.raises(UserError, match="none of the images could be read"):
        measure(DataConfig(on_error="skip", max_pixels=24 * 24 - 1))


def test_an_unfinished_export_is_refused_as_a_set_and_can_be_resumed(tmp_path: Path) -> None:
    dataset = numbered("files", 9, tmp_path)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(dataset, tmp_path / "out", 16, stop)
    with pytest.raises(UserError, match="is an unfinished export"):
        folders.read(tmp_path / "out", DataConfig())
    blocked = tmp_path / "out" / "test"
    blocked.touch()  # where a folder must be
    with pytest.raises((UserError, Failure)):
        export(dataset, tmp_path / "out", 16, lambda _: None)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    with pytest.raises(UserError, match="is an unfinished export"):
        folders.read(tmp_path / "out", DataConfig())
    blocked.unlink()
    assert export(dataset, tmp_path / "out", 16, lambda _: None).images == 16
    assert not (tmp_path / "out" / folders.UNFINISHED).exists()


def test_names_that_are_not_utf_8_are_exported(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in (b"caf\xe9", b"tea"):
            folder = Path(os.fsdecode(os.fsencode(tmp_path / "set" / part) + b"/" + label))
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(folder / f"{number}.png")
    dataset = load(DataConfig(name=str(tmp_path / "set")))
    assert export(dataset, tmp_path / "out", 8, lambda _: None).images == 12
    assert b"caf\xe9/" in (tmp_path / "out" / "SHA256SUMS").read_bytes()
