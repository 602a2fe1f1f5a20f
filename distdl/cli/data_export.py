"""`distdl data export NAME`: write a set as folders of image files."""

from typing import Literal

import numpy as np

from distdl.cli.conversion import DataSetName, OnError, list_left_out, load_source, progress_bar, say, unreadable_images
from distdl.core.config import ComponentOptions, DataConfig, FilePath, Positive
from distdl.core.errors import UserError
from distdl.core.registry import NO_OPTIONS
from distdl.core.text import printable
from distdl.data.storage.destination import parts_of


def export(
    name: DataSetName,
    *,
    out: FilePath,
    format: Literal["folder", "jpeg"],
    root: FilePath | None = None,
    size: Positive | None = None,
    on_error: OnError = "raise",
    options: ComponentOptions = NO_OPTIONS,
) -> None:
    """Write a data set as image files in folders PART/CLASS.

    The same call resumes one that was interrupted, and verifies one that is complete.

    Args:
        name: a set by name (distdl data list), or the path of an image folder, of shards or of an archive.
        out: folder for the images, which --data.name accepts.
        format: folder copies the files unchanged; jpeg converts them to JPEG, which decodes faster if it is smaller.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        size: jpeg: pixels of the short side; smaller images are not enlarged; default: no resizing.
        on_error: at an unreadable image raise ends the call; skip leaves the image out and lists it.
        options: settings of a data set of another package, dataset.NAME=VALUE.
    """
    from distdl.data.storage.export import export as write

    if size is not None and format != "jpeg":
        raise UserError("--size is for --format jpeg")
    dataset = load_source(DataConfig(name=name, root=root, normalize="none"), options, out)
    left_out, unreadable = unreadable_images(on_error)
    with progress_bar(dataset, "exporting") as progress:
        exported = write(dataset, out, (size or 0) if format == "jpeg" else None, progress, unreadable)
    list_left_out(left_out)
    count = f"{exported.images:,} images, verified against their checksums in SHA256SUMS"
    if exported.unchanged:
        say(f"{out} is already complete, nothing was written: {count}")
        return
    present = {number for split in parts_of(dataset).values() for number in np.unique(split.labels).tolist()}
    if absent := [name for number, name in enumerate(dataset.classes) if number not in present]:
        say(f"{len(absent):,} classes have no images and no folder: {printable(', '.join(absent[:3]), 200)}")
    say(f"{count}: --data.name {out}")
