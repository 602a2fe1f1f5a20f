"""Shared by `distdl data pack` and `distdl data export`: load the set, show progress, list what is left out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distdl.core.conditions import require_keys
from distdl.core.config import ComponentOptions, DataConfig
from distdl.core.console import PlainConsole
from distdl.core.text import printable
from distdl.data.dataset import DataSet
from distdl.data.files import Unreadable
from distdl.data.sets.load import load, locate, source_of
from distdl.data.storage.destination import linked_from_outside, refuse_inside

DataSetName = Annotated[str, tyro.conf.Positional]
OnError = Literal["raise", "skip"]


def load_source(config: DataConfig, options: ComponentOptions, out: Path) -> DataSet:
    """Load a set that is to be written to `out`, which must not be inside of it. Links that lead out are named."""
    require_keys(options, ["dataset"])
    source = source_of(config.name, config.root, options.get("dataset"))
    dataset = load(config, source=source)
    folder = locate(config.name, source, config.root) if source.folders else None
    refuse_inside(out, folder, dataset)
    if sentence := linked_from_outside(folder, dataset):
        say(f"note: {sentence}")
    return dataset


@contextmanager
def progress_bar(dataset: DataSet, what: str) -> Iterator[Callable[[int], None]]:
    total = sum(len(split) for split in (dataset.train, dataset.validation, dataset.test) if split is not None)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(stderr=True)) as progress:
        task = progress.add_task(f"{what} {dataset.name}", total=total)
        yield lambda count: progress.advance(task, count)


def unreadable_images(on_error: OnError) -> tuple[dict[str, None], Callable[[Unreadable], None]]:
    """Sentences about unreadable images so far, each once, and what to call for each image."""
    from distdl.data.storage.pack import refuse

    sentences: dict[str, None] = {}
    return sentences, refuse if on_error == "raise" else lambda error: sentences.setdefault(str(error))


def list_left_out(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        say(printable(f"left out: {sentence}"))


def say(text: str) -> None:
    PlainConsole().print(text, soft_wrap=True)
