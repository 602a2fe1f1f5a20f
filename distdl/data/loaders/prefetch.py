"""Reading ahead: whole blocks of the large files that have the next samples, one after the other.

Samples of a group of blocks come in random order. Read one by one they would make a parallel file system seek for each;
so a thread reads the next group's blocks from end to end, into the kernel's page cache, from which every process of the
host then takes them. That memory is the kernel's: no process grows, and where it is needed it is given up.
"""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from distdl.data.files import ShardParts
from distdl.data.loaders import order
from distdl.data.loaders.spec import LoaderSpec

PIECE = 2**20


class ReadAhead:
    """A thread that stays one group ahead of the samples that are asked for."""

    def __init__(self, spec: LoaderSpec, files: ShardParts, epoch: int) -> None:
        self.files, self.bounds = files, files.blocks()
        self.groups = order.groups(spec.config.seed, epoch, len(self.bounds) - 1)
        sizes = np.diff(self.bounds)
        self.begins = np.cumsum([0, *(sizes[group].sum() for group in self.groups)])
        # The ranks of a host share its page cache: each reads its part.
        self.share = slice(spec.world.local_rank, None, spec.world.local_size)
        self.read: list[int] = []
        """Blocks read so far."""
        self._position, self._moved, self._over = 0, threading.Condition(), False
        self._thread = threading.Thread(target=self._worker, name="distdl-read-ahead", daemon=True)

    def advance(self, position: int) -> None:
        """The epoch's samples before `position` have been asked for."""
        with self._moved:
            self._position = max(self._position, position)
            self._moved.notify()

    def _worker(self) -> None:
        piece = bytearray(PIECE)
        for number, group in enumerate(self.groups):
            with self._moved:
                self._moved.wait_for(lambda n=number: self._over or self._position >= self.begins[max(n - 1, 0)])
                late = self._position >= self.begins[number + 1]
            if late:
                continue  # the epoch began behind it
            for block in np.sort(group)[self.share]:
                if self._over:
                    return
                self._fetch(int(block), piece)
                self.read.append(int(block))

    def _fetch(self, block: int, piece: bytearray) -> None:
        first, last = self.bounds[block], self.bounds[block + 1] - 1
        begin, end = int(self.files.offset[first]), int(self.files.offset[last] + self.files.size[last])
        # The process that needs the sample reports the error.
        with contextlib.suppress(OSError), self.files[first].path.open("rb", buffering=0) as source:
            source.seek(begin)
            view = memoryview(piece)
            while begin < end and (got := source.readinto(view[: min(PIECE, end - begin)])):
                begin += got

    def __enter__(self) -> "ReadAhead":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._moved:
            self._over = True
            self._moved.notify()
        self._thread.join()


def steps_ahead(spec: LoaderSpec, epoch: int, start: int) -> Iterator[order.Step]:
    """Steps of a loader, each requested when it is read; blocks of large files are read ahead."""
    files = spec.shard_parts
    if files is None or not spec.training:
        yield from spec.steps(epoch, start)
        return
    with ReadAhead(spec, files, epoch) as ahead:
        ahead.advance(start)
        for step in spec.steps(epoch, start):
            ahead.advance(step.position)
            yield step
