"""`distdl data pack` and `distdl data export`: convert a data set from one layout into another."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distdl.core.conditions import require_keys
from distdl.core.config import ComponentOptions, DataConfig, FilePath, Positive
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.core.registry import NO_OPTIONS
from distdl.core.text import printable
from distdl.data.dataset import DataSet
from distdl.data.files import Unreadable
from distdl.data.sets.load import load, locate, source_of
from distdl.data.storage.destination import parts_of, refuse_inside

Name = Annotated[str, tyro.conf.Positional]
OnError = Literal["raise", "skip"]


def pack(
    name: Name,
    *,
    out: FilePath,
    format: Literal["shards", "records"],
    root: FilePath | None = None,
    shard_mib: Positive = 64,
    on_error: OnError = "raise",
    options: ComponentOptions = NO_OPTIONS,
) -> None:
    """Pack a data set into a few large files, which parallel file systems read fast. An interrupted call is resumed.

    Args:
        name: a set by name (distdl data list), or the path of an image folder, of shards or of an archive.
        out: folder for the shards; --data.name takes it.
        format: shards are tar files as WebDataset and DALI read them; records are MXNet's, which DALI reads.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        shard_mib: approximate size of a file in MiB.
        on_error: raise ends at an unreadable image; skip omits it and lists it at the end.
        options: settings of a data set of another package, dataset.NAME=VALUE.
    """
    from distdl.data.storage.pack import pack as write

    dataset = _load(DataConfig(name=name, root=root, on_error="skip"), options, out)
    left_out, unreadable = _on_error(on_error)
    with _progress(dataset, "packing") as progress:
        files = write(dataset, out, format, shard_mib * 2**20, progress, unreadable).shards()
    _list(left_out)
    size = sum(file.bytes for file in files) / 2**20
    count = sum(file.samples for file in files)
    _say(f"{count:,} images in {len(files)} files of {size:,.1f} MiB, read again and equal: --data.name {out}")


def export(
    name: Name,
    *,
    out: FilePath,
    format: Literal["folder", "jpeg"],
    root: FilePath | None = None,
    size: Positive | None = None,
    on_error: OnError = "raise",
    options: ComponentOptions = NO_OPTIONS,
) -> None:
    """Write a data set as image files in folders PART/CLASS. An interrupted call is resumed.

    Args:
        name: a set by name (distdl data list), or the path of an image folder, of shards or of an archive.
        out: folder for the images; --data.name takes it.
        format: folder copies files unchanged; jpeg converts them to JPEG, which decodes faster if it is smaller.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        size: jpeg: short side in pixels, to which larger images are reduced; default: images keep their size.
        on_error: raise ends at an unreadable image; skip omits it and lists it at the end.
        options: settings of a data set of another package, dataset.NAME=VALUE.
    """
    from distdl.data.storage.export import export as write

    if size is not None and format != "jpeg":
        raise UserError("--size is for --format jpeg")
    dataset = _load(DataConfig(name=name, root=root, normalize="none"), options, out)
    left_out, unreadable = _on_error(on_error)
    with _progress(dataset, "exporting") as progress:
        count = write(dataset, out, (size or 0) if format == "jpeg" else None, progress, unreadable)
    _list(left_out)
    present = {number for split in parts_of(dataset).values() for number in np.unique(split.labels).tolist()}
    if absent := [name for number, name in enumerate(dataset.classes) if number not in present]:
        _say(f"{len(absent):,} classes have no images and no folder: {printable(', '.join(absent[:3]), 200)}")
    _say(f"{count:,} images, read again and equal to their sums in SHA256SUMS: --data.name {out}")


def _load(config: DataConfig, options: ComponentOptions, out: Path) -> DataSet:
    """Load a set that is to be written to `out`, which must not be inside of the set."""
    require_keys(options, ["dataset"])
    source = source_of(config.name, config.root, options.get("dataset"))
    dataset = load(config, source=source)
    refuse_inside(out, locate(config.name, source, config.root) if source.folders else None, dataset)
    return dataset


@contextmanager
def _progress(dataset: DataSet, what: str) -> Iterator[Callable[[int], None]]:
    total = sum(len(split) for split in (dataset.train, dataset.validation, dataset.test) if split is not None)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(stderr=True)) as progress:
        task = progress.add_task(f"{what} {dataset.name}", total=total)
        yield lambda count: progress.advance(task, count)


def _on_error(on_error: OnError) -> tuple[dict[str, None], Callable[[Unreadable], None]]:
    """Sentences about unreadable images so far, each once, and what to call for each image."""
    from distdl.data.storage.pack import refuse

    sentences: dict[str, None] = {}
    return sentences, refuse if on_error == "raise" else lambda error: sentences.setdefault(str(error))


def _list(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        _say(printable(f"left out: {sentence}"))


def _say(text: str) -> None:
    PlainConsole().print(text, soft_wrap=True)
