"""`distdl data pack NAME`: write a set into a few large files."""

from typing import Literal

from distdl.cli.conversion import DataSetName, OnError, list_left_out, load_source, progress_bar, say, unreadable_images
from distdl.core.config import ComponentOptions, DataConfig, FilePath, Positive
from distdl.core.registry import NO_OPTIONS


def pack(
    name: DataSetName,
    *,
    out: FilePath,
    format: Literal["shards", "records"],
    root: FilePath | None = None,
    shard_mib: Positive = 64,
    on_error: OnError = "raise",
    options: ComponentOptions = NO_OPTIONS,
) -> None:
    """Pack a data set into a few large files, which parallel file systems read efficiently.

    The same call resumes one that was interrupted, and verifies one that is complete.

    Args:
        name: a set by name (distdl data list), or the path of an image folder, of shards or of an archive.
        out: folder for the shards, which --data.name accepts.
        format: shards are tar files as WebDataset and DALI read them; records are MXNet's, which DALI reads.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        shard_mib: approximate size of each file in MiB.
        on_error: at an unreadable image raise ends the call; skip leaves the image out and lists it.
        options: settings of a data set of another package, dataset.NAME=VALUE.
    """
    from distdl.data.storage.pack import pack as write

    dataset = load_source(DataConfig(name=name, root=root, on_error="skip"), options, out)
    left_out, unreadable = unreadable_images(on_error)
    with progress_bar(dataset, "packing") as progress:
        packed = write(dataset, out, format, shard_mib * 2**20, progress, unreadable)
    list_left_out(left_out)
    files = packed.described.shards()
    size = sum(file.bytes for file in files) / 2**20
    count = sum(file.samples for file in files)
    content = f"{count:,} images in {len(files)} files of {size:,.1f} MiB"
    if packed.unchanged:
        say(f"{out} is already complete, nothing was written: {content}, verified against their checksums")
    else:
        say(f"{content}, verified by reading them back: --data.name {out}")
