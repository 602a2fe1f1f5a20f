"""`distdl data verify`: check a whole data set, and list what is wrong with it."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from distdl.core.conditions import require_keys
from distdl.core.config import ComponentOptions, DataConfig, FilePath
from distdl.core.console import PlainConsole
from distdl.core.errors import EXIT_DONE, EXIT_FAILED
from distdl.core.registry import NO_OPTIONS
from distdl.core.text import printable
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load, locate, source_of
from distdl.runtime.cores import cores

if TYPE_CHECKING:
    from distdl.data.sets.verify import Report


def verify_set(
    name: Annotated[str, tyro.conf.Positional],
    *,
    root: FilePath | None = None,
    options: ComponentOptions = NO_OPTIONS,
    json: bool = False,
) -> int:
    """Check a whole data set: decode each image, find duplicates, compare packed files with their checksums.

    Findings are listed one per line. The exit code is 0 if there are none, 1 if there are some, and 2 if the set cannot
    be read at all.

    Args:
        name: a set by name (distdl data list), or the path of an image folder, of shards or of an archive.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        options: settings of a data set of another package, dataset.NAME=VALUE.
        json: print one JSON object instead of text.
    """
    require_keys(options, ["dataset"])
    source = source_of(name, root, options.get("dataset"))
    dataset = load(DataConfig(name=name, root=root, normalize="none"), source=source)
    folder = locate(name, source, root)
    report = _verified(dataset, folder if source.packed else None)
    if json:
        print(json_format.dumps(_as_json(dataset, report)))
    else:
        _show(dataset, report)
    return EXIT_FAILED if report.findings else EXIT_DONE


def _verified(dataset: DataSet, packed: Path | None) -> "Report":
    from distdl.data.sets.verify import verify

    total = sum(len(split) for split in (dataset.train, dataset.validation, dataset.test) if split is not None)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(stderr=True), transient=True) as progress:
        task = progress.add_task(f"verifying {printable(dataset.name)}", total=total)
        return verify(dataset, packed, cores(), lambda count: progress.advance(task, count))


def _as_json(dataset: DataSet, report: "Report") -> dict[str, Any]:
    return {
        "name": dataset.name,
        "images": report.images,
        "classes": {
            label: {split: counts[number] for split, counts in report.counts.items()}
            for number, label in enumerate(dataset.classes)
        },
        "width": report.width,
        "height": report.height,
        "notes": dataset.notes,
        "findings": [finding._asdict() for finding in report.findings],
    }


def _show(dataset: DataSet, report: "Report") -> None:
    from distdl.data.sets.verify import KINDS

    console = PlainConsole()
    for finding in report.findings:
        where = f"{finding.split}: {finding.image} " if finding.image and finding.image not in finding.reason else ""
        line = f"{finding.kind}: {where}{finding.reason}"
        console.print(Text(printable(line)), soft_wrap=True)
    for note in dataset.notes:
        console.print(Text(printable(f"note: {note}")), soft_wrap=True)
    table = Table(title=Text(printable(dataset.name)), title_justify="left")
    for column in ("split", "images", "images per class"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, count in report.images.items():
        low, high = min(report.counts[split]), max(report.counts[split])
        table.add_row(split, f"{count:,}", f"{low:,}" if low == high else f"{low:,} to {high:,}")
    console.print(table)
    (low, high), (short, tall) = report.width, report.height
    console.print(f"{len(dataset.classes):,} classes; {low} to {high} pixels wide, {short} to {tall} high")
    kinds = {kind: sum(finding.kind == kind for finding in report.findings) for kind in KINDS}
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    console.print(f"{len(report.findings):,} findings: {counts}" if counts else "no findings")
