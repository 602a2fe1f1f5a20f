"""`distdl data describe NAME`: splits, classes and sizes of a data set."""

import textwrap
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

from distdl.core.conditions import require_keys
from distdl.core.config import ComponentOptions, DataConfig, FilePath, Seed, Share
from distdl.core.console import PlainConsole
from distdl.core.registry import NO_OPTIONS
from distdl.core.text import name as shown
from distdl.core.text import printable
from distdl.data.dataset import DataSet, ResidentSplit, Split
from distdl.data.files import Unreadable, read
from distdl.data.sets.load import load, source_of
from distdl.data.storage.image_header import read_header
from distdl.report import figure_files

SHOWN = 20
"""Classes that the terminal lists; the figure shows all."""


def describe(
    name: Annotated[str, tyro.conf.Positional],
    *,
    root: FilePath | None = None,
    validation: Share = 0.0,
    split_seed: Seed = 0,
    options: ComponentOptions = NO_OPTIONS,
    figure: FilePath | None = None,
) -> None:
    """Describe a data set: its splits, classes, images per class, sizes and statistics.

    Args:
        name: a set by name (distdl data list), or the path of an image folder or of an archive of one.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        validation: share of each class that is moved from training to validation, drawn with split_seed.
        split_seed: seed of that split.
        options: settings of a data set of another package, dataset.NAME=VALUE.
        figure: write a bar chart of images per class and a picture of samples to this file (.png, .svg, .pdf).
    """
    figure_files.check(figure)
    data = DataConfig(name=name, root=root, validation=validation, split_seed=split_seed, on_error="skip")
    require_keys(options, ["dataset"])
    source = source_of(name, root, options.get("dataset"))
    dataset = load(data, source=source)
    console = PlainConsole()
    console.print(Text.assemble((printable(dataset.name), "bold"), f": {printable(source.text)}"))
    console.print(_facts(dataset))
    console.print(_classes(dataset))
    for note in dataset.notes:
        console.print(Text(textwrap.fill(printable(f"note: {note}"), console.width)))
    if figure:
        from distdl.report.sample_grid import draw_dataset

        draw_dataset(dataset, figure)
        console.print(f"figure: {figure}", soft_wrap=True)


def _facts(dataset: DataSet) -> Table:
    table = Table.grid(padding=(0, 2))
    for part, split in _parts(dataset).items():
        counts = np.bincount(split.labels, minlength=len(dataset.classes))
        table.add_row(part, f"{len(split):,} images, {_range(counts)} per class")
    table.add_row("classes", f"{len(dataset.classes):,}")
    table.add_row("images", _image_sizes(dataset))
    table.add_row("mean", "  ".join(f"{value:.4f}" for value in dataset.mean))
    table.add_row("std", "  ".join(f"{value:.4f}" for value in dataset.std))
    return table


def _range(counts: np.ndarray) -> str:
    low, high = counts.min(), counts.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _parts(dataset: DataSet) -> dict[str, Split]:
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: split for name, split in parts.items() if split is not None}


def _image_sizes(dataset: DataSet) -> str:
    kind = "gray" if dataset.channels == 1 else "color"
    split = dataset.train
    if isinstance(split, ResidentSplit):
        height, width = split.images.shape[1:3]
        return f"{height} x {width} pixels, {kind}"
    picks = np.linspace(0, len(split) - 1, min(200, len(split))).astype(int)
    sizes = []
    for file in (split.files[index] for index in picks.tolist()):
        try:
            sizes.append(read_header(file, read(file)).upright)
        except Unreadable:
            continue
    high, wide = np.array(sizes or [(0, 0)]).T
    unreadable = f", {len(picks) - len(sizes)} unreadable" if len(sizes) < len(picks) else ""
    return (
        f"{_range(wide)} pixels wide, {_range(high)} high ({len(picks)} files examined{unreadable}), {kind}; "
        f"resized to {dataset.image_size} x {dataset.image_size}"
    )


def _classes(dataset: DataSet) -> Table:
    parts = _parts(dataset)
    counts = {name: np.bincount(split.labels, minlength=len(dataset.classes)) for name, split in parts.items()}
    table = Table()
    table.add_column("class", overflow="fold")
    for part in parts:
        table.add_column(part, justify="right")
    table.add_column("")
    most = counts["train"].max()
    for number, label in enumerate(dataset.classes[:SHOWN]):
        bar = "█" * max(round(20 * counts["train"][number] / most), 1)
        table.add_row(Text(shown(label)), *(f"{counts[part][number]:,}" for part in parts), bar)
    if len(dataset.classes) > SHOWN:
        table.add_row(f"and {len(dataset.classes) - SHOWN:,} more", *("" for _ in parts), "")
    return table
