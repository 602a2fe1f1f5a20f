"""Read-ahead of whole blocks of the large files that contain the next samples.

Samples of a group of blocks are used in random order. Reading them one by one would cause a seek for each on a parallel
file system. Therefore a thread reads the blocks of the next group sequentially into the kernel's page cache, from which
all processes of the host then read. This needs no memory of any process, and the kernel frees it under pressure.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Self

import numpy as np

from distdl.core.regular import open_regular
from distdl.data.files import ShardParts
from distdl.data.loaders import order
from distdl.data.loaders.spec import LoaderSpec

PIECE = 2**20


class ReadAhead:
    """A thread that reads one group ahead of the requested samples."""

    def __init__(self, spec: LoaderSpec, files: ShardParts, epoch: int, start: int = 0) -> None:
        self.files, self.bounds = files, files.blocks()
        self.groups = order.groups(spec.config.seed, epoch, len(self.bounds) - 1)
        sizes = np.diff(self.bounds)
        self.group_starts = np.cumsum([0, *(sizes[group].sum() for group in self.groups)])
        # The ranks of a host share its page cache: each reads its part.
        self.share = slice(spec.world.local_rank, None, spec.world.local_size)
        self.read: list[int] = []
        """Blocks read so far."""
        self._position, self._changed, self._closed = start, threading.Condition(), False
        self._thread = threading.Thread(target=self._worker, name="distdl-read-ahead", daemon=True)

    def advance(self, position: int) -> None:
        """Report that the epoch's samples before `position` have been requested."""
        with self._changed:
            self._position = max(self._position, position)
            self._changed.notify()

    def _worker(self) -> None:
        piece = bytearray(PIECE)
        for number, group in enumerate(self.groups):
            with self._changed:
                self._changed.wait_for(
                    lambda n=number: self._closed or self._position >= self.group_starts[max(n - 1, 0)]
                )
                is_past = self._position >= self.group_starts[number + 1]
            if is_past:
                continue  # the epoch was resumed after this group
            for block in np.sort(group)[self.share]:
                if self._closed:
                    return
                self._fetch(int(block), piece)
                self.read.append(int(block))

    def _fetch(self, block: int, piece: bytearray) -> None:
        first, last = self.bounds[block], self.bounds[block + 1] - 1
        begin, end = int(self.files.offset[first]), int(self.files.offset[last] + self.files.size[last])
        # An error is reported by the process that needs the sample.
        with contextlib.suppress(OSError), open_regular(self.files[first].path) as source:
            source.seek(begin)
            view = memoryview(piece)
            while begin < end and (count := source.readinto(view[: min(PIECE, end - begin)])):
                begin += count

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()


def steps_ahead(spec: LoaderSpec, epoch: int, start: int) -> Iterator[order.Step]:
    """Yield the steps of a loader, each when its samples are to be read; blocks of large files are read ahead."""
    files = spec.shard_parts
    if files is None or not spec.training:
        yield from spec.steps(epoch, start)
        return
    with ReadAhead(spec, files, epoch, start) as ahead:
        for step in spec.steps(epoch, start):
            ahead.advance(step.position)
            yield step
