"""Image decoders: images per CPU second on one core, agreement with Pillow, and behavior with damaged files.

The reference is Pillow's `exif_transpose(image).convert("RGB")`, and the upper 8 bits of 16-bit gray. Decoders are
interleaved; CPU time is measured, so that other load on the machine has little influence. Mutated files are decoded in
separate processes. torchvision, torchcodec and OpenCV are measured if they are installed:

    pip install torchcodec opencv-python-headless
    python benchmarks/decoders.py [--data-root FOLDER] [--rounds 5] [--mutated 40]
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from loaders import photographs
from PIL import Image, ImageOps
from timing import interleaved, markdown_table, spread, write_result

from distdl.core.config import DataConfig
from distdl.data.files import read
from distdl.data.sets.load import load
from distdl.data.storage import decode
from distdl.data.storage.image_header import read_header

sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests/support"))
from fuzz.images import expected, seeds
from fuzz.mutations import mutate

Decoder = Callable[[np.ndarray], np.ndarray]
"""Decodes bytes [n] uint8 to pixels [height, width, 3] uint8."""
IMAGES = 60
OUTCOMES = (
    "same",
    "refused, as by Pillow",
    "read, but Pillow refuses",
    "refused, but Pillow reads",
    "differs",
    "ended by a signal",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mutated", type=int, default=40, help="mutated files per seed file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    candidates = decoders()
    with tempfile.TemporaryDirectory() as scratch:
        sets = sets_of(options.data_root, Path(scratch))
        parts = [safety(candidates, options.mutated), exactness(candidates), speed(candidates, sets, options.rounds)]
    parts = [parts[2], header_cost(sets, options.rounds), parts[1], parts[0]]
    packages = ("torch", "pillow", "simplejpeg", "torchvision", "torchcodec", "opencv-python-headless")
    print(write_result("decoders", "cpu", "\n\n".join(parts), *packages))


def decoders() -> dict[str, Decoder]:
    """Candidates that are installed, by name."""
    candidates: dict[str, Decoder] = {"distdl": distdl, "Pillow": pillow}
    import simplejpeg

    candidates["simplejpeg"] = partial(simplejpeg.decode_jpeg, colorspace="RGB", fastdct=False, fastupsample=False)
    with contextlib.suppress(ImportError):
        from torchvision.io import ImageReadMode, decode_image

        candidates["torchvision"] = lambda content: decode_image(
            torch.from_numpy(content), ImageReadMode.RGB, apply_exif_orientation=True
        ).permute(1, 2, 0).numpy()  # fmt: skip
    with contextlib.suppress(ImportError):
        from torchcodec.decoders import decode_image as decode_by_torchcodec

        candidates["torchcodec"] = lambda content: (
            decode_by_torchcodec(torch.from_numpy(content)).permute(1, 2, 0).numpy()
        )
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
        candidates["OpenCV"] = lambda content: _not_none(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))
    return candidates


def _not_none(pixels: np.ndarray | None) -> np.ndarray:
    if pixels is None:
        raise ValueError("not decoded")
    return pixels


def distdl(content: np.ndarray) -> np.ndarray:
    """Decode as distdl's loaders do."""
    return decode.decode_content(Path("image"), content, 3).permute(1, 2, 0).numpy()


def pillow(content: np.ndarray) -> np.ndarray:
    """Decode with Pillow, the reference."""
    with Image.open(io.BytesIO(content)) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def sets_of(root: Path | None, scratch: Path) -> dict[str, list[np.ndarray]]:
    """Encoded images by name of the set."""
    sets = {}
    for name in ("photographs", "caltech101", "flowers", "gtsrb"):
        source = str(photographs(scratch / name, IMAGES)) if name == "photographs" else name
        files = load(DataConfig(name=source, root=root, normalize="imagenet")).train.files
        picks = np.linspace(0, len(files) - 1, IMAGES).astype(int)
        sets[f"{name} (PNG)" if name == "gtsrb" else name] = [read(files[pick]) for pick in picks.tolist()]
    sets["photographs (PNG)"] = [_png(content) for content in sets["photographs"][:12]]
    return sets


def _png(content: np.ndarray) -> np.ndarray:
    sink = io.BytesIO()
    Image.open(io.BytesIO(content)).save(sink, "PNG")
    return np.frombuffer(sink.getvalue(), np.uint8).copy()


def speed(candidates: Mapping[str, Decoder], sets: Mapping[str, list[np.ndarray]], rounds: int) -> str:
    """Measure images per CPU second."""
    rows = []
    for name, contents in sets.items():
        measurable = {label: partial(_rate, decoder, contents) for label, decoder in candidates.items()
                if label != "simplejpeg" or not name.endswith("(PNG)")}  # fmt: skip
        for measure in measurable.values():
            measure()
        figures = interleaved(measurable, rounds)
        size = sum(map(len, contents)) / len(contents) / 1024
        cells = [spread(figures[label], 0) if label in measurable else "" for label in candidates]
        rows.append([f"{name}, {size:.0f} KiB", *cells])
    text = f"## Speed: images per CPU second, one core, {rounds} rounds, median (least to greatest)"
    return f"{text}\n\n{markdown_table(['set', *candidates], rows)}"


def _rate(decoder: Decoder, contents: list[np.ndarray]) -> float:
    start = time.process_time()
    for content in contents:
        decoder(content)
    return len(contents) / (time.process_time() - start)


def header_cost(sets: Mapping[str, list[np.ndarray]], rounds: int) -> str:
    """Measure the time of reading the header as a share of the decoding time."""
    rows = []
    for name, contents in sets.items():
        measures = {
            "header": partial(_rate, lambda content: read_header(Path("image"), content), contents * 5),
            "decode": partial(_rate, distdl, contents),
        }
        figures = interleaved(measures, rounds)
        shares = [
            100 * decode_s / header for header, decode_s in zip(figures["header"], figures["decode"], strict=True)
        ]
        rows.append([name, spread([1e6 / rate for rate in figures["header"]], 1), spread(shares, 1)])
    return "## Reading the header first\n\n" + markdown_table(["set", "us per image", "% of decoding"], rows)


def exactness(candidates: Mapping[str, Decoder]) -> str:
    """Return the largest difference from the reference in gray levels, by file; other shapes and errors are named."""
    rows = []
    for name, content in sorted(seeds(Path()).items()):
        encoded = np.frombuffer(content, np.uint8).copy()
        reference = expected(content)
        rows.append([name, *(_difference(decoder, encoded, reference) for decoder in candidates.values())])
    return "## Greatest difference from the reference, gray levels\n\n" + markdown_table(["file", *candidates], rows)


def _difference(decoder: Decoder, content: np.ndarray, reference: np.ndarray) -> str:
    try:
        pixels = decoder(content)
    except Exception:
        return "refused"
    return "other shape" if pixels.shape != reference.shape else str(abs(pixels.astype(int) - reference).max())


def safety(candidates: Mapping[str, Decoder], count: int) -> str:
    """Decode mutated files, one process per file, and compare the outcomes with the reference."""
    rows = []
    for kind in ("jpg", "png"):
        files = [content for name, content in sorted(seeds(Path()).items()) if name.endswith(kind)]
        mutated = [np.frombuffer(mutate(content, seed), np.uint8).copy() for content in files for seed in range(count)]
        for label, decoder in candidates.items():
            counts = Counter(_outcome(decoder, content) for content in mutated)
            rows.append([kind, label, *(str(counts[outcome]) for outcome in OUTCOMES)])
    return "## Mutated files\n\n" + markdown_table(["format", "decoder", *OUTCOMES], rows)


def _outcome(decoder: Decoder, content: np.ndarray) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(60)
        os.write(writer, _compared(decoder, content).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as source:  # noqa: PTH123 - a descriptor, not a path
        outcome = source.read()
    status = os.waitpid(child, 0)[1]
    return "ended by a signal" if os.WIFSIGNALED(status) else outcome


def _compared(decoder: Decoder, content: np.ndarray) -> str:
    reference = expected(content.tobytes())
    try:
        pixels = decoder(content)
    except Exception:
        return "refused, as by Pillow" if reference is None else "refused, but Pillow reads"
    if reference is None:
        return "read, but Pillow refuses"
    return "same" if pixels.shape == reference.shape and abs(pixels - reference).max() <= 1 else "differs"


if __name__ == "__main__":
    main()
