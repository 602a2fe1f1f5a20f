"""A data set in one figure: images per class, and samples of some classes."""

import base64
import io
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from distdl.core.format import Cell
from distdl.core.text import printable
from distdl.data.augment.crops import central_window
from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import Unreadable
from distdl.data.storage import decode
from distdl.report.content import Axis, Figure, PlotLayer
from distdl.report.figure_files import save, stacked, svg

ROWS, COLUMNS = 10, 8
"""Largest numbers of classes, and of samples of each, that are shown."""
NAMED = 50
"""Largest number of classes whose names fit under the bars."""
SIDE, GAP, MARGIN = 66, 4, 150
"""Pixels of a sample, of the gap between samples, and of the class names at the left."""
DECODED = 96
"""Size in pixels to which encoded images are decoded, and to which smaller images are enlarged."""


def draw_dataset(dataset: DataSet, path: Path) -> None:
    """Write the figure: images per class by split at the top, samples below, one row per class.

    If there are more than ROWS classes, ROWS evenly spaced ones are shown.

    Raises:
        UserError: if the file cannot be written.
    """
    rows = np.unique(np.linspace(0, len(dataset.classes) - 1, ROWS).astype(int))
    save(stacked(svg(class_sizes(dataset)), sample_grid(dataset, rows.tolist())), path)


def class_sizes(dataset: DataSet) -> Figure:
    """Return a figure of images per class, as bars that are stacked by split. With many classes, bars have no names."""
    named = len(dataset.classes) <= NAMED
    classes: list[Cell] = [printable(name) if named else number for number, name in enumerate(dataset.classes)]
    data: dict[str, list[Cell]] = {"class": [], "from": [], "to": [], "split": []}
    tops = np.zeros(len(classes), int)
    for name, split in _splits(dataset):
        bottoms, tops = tops, tops + np.bincount(split.labels, minlength=len(classes))
        data["class"] += classes
        data["from"] += bottoms.tolist()
        data["to"] += tops.tolist()
        data["split"] += [f"{name}, {len(split):,}"] * len(classes)
    layer = PlotLayer(mark="bars", data=data, x="class", y="to", start="from", series="split", stack=True)
    return Figure(
        name="classes",
        title=f"{printable(dataset.name)}: {tops.sum():,} images in {len(classes):,} classes",
        x=Axis(title="", scale="category") if named else Axis(title="class, in the order of names"),
        y=Axis(title="images"),
        layers=(layer,),
    )


def _splits(dataset: DataSet) -> Iterator[tuple[str, Split]]:
    for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        if split is not None:
            yield name, split


def sample_grid(dataset: DataSet, labels: list[int]) -> str:
    """Draw training images as SVG, one row per label, with the name of its class."""
    pitch = SIDE + GAP
    elements = []
    for y, label in zip(itertools.count(GAP, pitch), labels, strict=False):
        name = escape(_shortened(printable(dataset.classes[label])))
        elements.append(f'<text x="{MARGIN - 2 * GAP}" y="{y + SIDE / 2}" dy="0.35em">{name}</text>')
        members = np.flatnonzero(dataset.train.labels == label)
        picks = members[np.linspace(0, len(members) - 1, min(COLUMNS, len(members))).astype(int)]
        for x, index in zip(itertools.count(MARGIN, pitch), picks.tolist(), strict=False):
            if (pixels := _pixels(dataset, index)) is not None:
                place = f'x="{x}" y="{y}" width="{SIDE}" height="{SIDE}"'
                elements.append(f'<image {place} href="{_data_url(pixels)}"/>')
    size = f'width="{MARGIN + COLUMNS * pitch}" height="{len(labels) * pitch + GAP}"'
    style = 'font-family="sans-serif" font-size="11" text-anchor="end"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<g {style}>", *elements, "</g>", "</svg>"])


def _pixels(dataset: DataSet, index: int) -> np.ndarray | None:
    """A training image as uint8 [height, width] or [height, width, 3]; None if its file cannot be read."""
    split = dataset.train
    if isinstance(split, ResidentSplit):
        image = split.images[index]
    else:
        window = partial(central_window, share=1.0)
        try:
            image = decode.load(split.files[index], dataset.channels, window, DECODED).numpy()
        except Unreadable:
            return None
    return image[..., 0] if dataset.channels == 1 else image


def _data_url(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    if (factor := DECODED // max(image.size)) > 1:  # nearest neighbor keeps the pixels of small images sharp
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _shortened(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
