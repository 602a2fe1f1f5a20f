"""A data set in one figure: images a class, and samples of some classes."""

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distdl.core.text import printable
from distdl.data.augment.crops import central_window
from distdl.data.dataset import DataSet, Split
from distdl.data.files import Unreadable
from distdl.data.storage import decode
from distdl.report.save_figure import save

ROWS, COLUMNS = 10, 8
"""Most classes and samples of each that are shown."""
NAMED = 50
"""Most classes whose names have room under the bars."""
COLORS = {"train": "#3b6ea8", "validation": "#e0a030", "test": "#9db8d6"}


def draw_dataset(dataset: DataSet, path: Path) -> None:
    """Write the figure: above, a bar for each class, stacked by split; below, samples, a row for each class.

    Of more than 10 classes, ten spread evenly over the list are shown.

    Raises:
        UserError: the file cannot be written.
    """
    shown = np.unique(np.linspace(0, len(dataset.classes) - 1, ROWS).astype(int))[:ROWS]
    figure = Figure(figsize=(10, 3.6 + 0.95 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    bars, samples = figure.subfigures(2, 1, height_ratios=(3.2, 0.95 * len(shown) + 0.4))
    _draw_bars(bars, dataset)
    _draw_samples(samples, dataset, shown)
    save(figure, path, dpi=110)


def _draw_bars(figure: Figure, dataset: DataSet) -> None:
    axes = figure.subplots()
    places, floor = np.arange(len(dataset.classes)), np.zeros(len(dataset.classes), int)
    for part, color in COLORS.items():
        split: Split | None = getattr(dataset, part)
        if split is None:
            continue
        counts = np.bincount(split.labels, minlength=len(places))
        # Bars of hundreds of classes touch: gaps narrower than a pixel would shimmer.
        width = 0.8 if len(places) <= NAMED else 1.0
        axes.bar(places, counts, bottom=floor, color=color, width=width, label=f"{part}, {len(split):,}")
        floor += counts
    title = f"{printable(dataset.name)}: {floor.sum():,} images in {len(places):,} classes"
    axes.set_title(title, loc="left", parse_math=False)
    axes.set_ylabel("images")
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
    # Outside of the axes: bars may be of any height.
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)
    if len(places) <= NAMED:
        names = [_shortened(printable(name)) for name in dataset.classes]
        slanted = max(map(len, names)) * len(places) > 90
        align = "right" if slanted else "center"
        axes.set_xticks(places, names, rotation=45 if slanted else 0, ha=align, parse_math=False)
        if slanted:
            axes.tick_params(axis="x", labelsize="small")
            for label in axes.get_xticklabels():
                label.set_rotation_mode("anchor")
    else:
        axes.set_xlabel("class, in the order of names")


def _draw_samples(figure: Figure, dataset: DataSet, classes: np.ndarray) -> None:
    grid = figure.subplots(len(classes), COLUMNS, squeeze=False)
    for row, label in zip(grid, classes, strict=True):
        members = np.flatnonzero(dataset.train.labels == label)
        picks = members[np.linspace(0, len(members) - 1, min(COLUMNS, len(members))).astype(int)]
        for axes in row:
            axes.set_axis_off()
        for axes, index in zip(row, picks, strict=False):
            if (image := _image(dataset, index)) is not None:
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        # Beside the row's first image, axes off: the label of an axis would not be drawn.
        row[0].text(
            -0.08,
            0.5,
            _shortened(printable(dataset.classes[label])),
            parse_math=False,
            transform=row[0].transAxes,
            ha="right",
            va="center",
            size="small",
        )


def _image(dataset: DataSet, index: int) -> np.ndarray | None:
    split = dataset.train
    if split.images is not None:
        image = split.images[index]
    else:
        window = partial(central_window, share=1.0)
        try:
            image = decode.load(split.files[index], dataset.channels, window, 96).numpy()
        except Unreadable:
            return None
    return image[..., 0] if dataset.channels == 1 else image


def _shortened(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
