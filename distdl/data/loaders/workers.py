"""Loader `torch`: DataLoader's worker processes read and decode; bytes are sent, and augmented on the device."""

import math
import mmap
import signal
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader

from distdl.core.errors import Failure, UserError
from distdl.data.dataset import Batch, EncodedSplit
from distdl.data.loaders.base import ChunkLoader
from distdl.data.loaders.prefetch import steps_ahead
from distdl.data.loaders.samples import Chunk, Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.cores import cores
from distdl.runtime.process import too_many_files
from distdl.runtime.torch_private import end_workers, replace_wait, start_workers, try_next, workers_of

PREFETCH = 4
"""Batches that each worker reads ahead: enough to ride out a slow file, few enough to keep in memory."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
"""Meant for the trainer, which stops in order, but sent to all its processes by Slurm, torchrun or a terminal."""


TURN_S = 1.0
"""Length of one wait for a worker."""
STOPPED_S, ENDING_S, ANSWER_S = 30.0, 10.0, 600.0
"""Waits after which the run fails: for a stopped worker, for any worker once the run was asked to stop, otherwise."""
ADVICE = (
    "after SIGKILL look for a lack of memory, after SIGBUS for a full /dev/shm: fewer --data.workers need less of both"
)


class TorchLoader(ChunkLoader):
    """A worker reads whole batches: which one reads what changes nothing, since a sample's draws are its own."""

    name = "torch"

    def __init__(self, spec: LoaderSpec, why: str) -> None:
        super().__init__(spec, why)
        self.requests = _Requests()
        workers = spec.config.data.workers
        workers = cores(spec.world.local_size) if workers < 0 else workers
        self.slots = _slots(spec, workers)
        self._reader = DataLoader(
            Samples(spec, self.slots),
            batch_size=None,  # a request is a batch already
            sampler=self.requests,
            collate_fn=_unchanged,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            persistent_workers=workers > 0,
            pin_memory=spec.world.device.type == "cuda",
            worker_init_fn=_begin_worker,
            multiprocessing_context=_start_method() if workers else None,
        )
        # Workers start now, while no other thread of this process works: a fork copies locks that one of them holds.
        start_workers(self._reader)
        if workers:
            wait = weakref.WeakMethod(self._wait)  # no cycle: the loader's end must not wait for the collector
            replace_wait(self._reader, lambda: _call(wait))
        # A loader that was not closed must not hold the process up: workers do not heed the SIGTERM of its end.
        self._end = weakref.finalize(self, end_workers, self._reader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, after the first `start` samples (counted over all ranks).

        Raises:
            UserError: a file cannot be read, and data.on_error is raise.
            Failure: a worker process ended, is stopped or does not answer.
        """
        steps = list(self.spec.steps(epoch, start))
        self.requests.items = self._asked(epoch, start)
        self.requests.count = len(steps)
        for step, chunk in zip(steps, self._chunks(), strict=True):
            if chunk.error:
                raise UserError(chunk.error)
            yield self.batch(step, chunk, chunk.images)

    def _asked(self, epoch: int, start: int) -> Iterator[tuple]:
        # Begun when no worker is at work: DataLoader has waited for what an epoch that was left had asked for.
        self._free = [] if self.slots is None else list(range(len(self.slots)))
        for step in steps_ahead(self.spec, epoch, start):
            yield (epoch, step.indices, *([] if self.slots is None else [self._free.pop()]))

    def _chunks(self) -> Iterator[Chunk]:
        try:
            for chunk in self._reader:
                if self.slots is None:
                    yield chunk
                else:
                    yield chunk._replace(images=self.slots[chunk.images, : len(chunk.indices)])
                    self._free.append(chunk.images)
        except RuntimeError as error:
            if codes := [worker.exitcode for worker in workers_of(self._reader) if worker.exitcode]:
                raise self._failure(f"ended {_how(codes[0])}; {ADVICE}") from None
            if "open files" in str(error) or "ancdata" in str(error):
                raise Failure(too_many_files()) from None
            raise

    def _wait(self) -> tuple:
        """Wait for the next delivery of a worker; replaces DataLoader's `_get_data`, which waits without end.

        Raises:
            RuntimeError: a worker has ended.
            Failure: a worker is stopped, or does not answer.
        """
        turns, stopped_turns = 0, 0
        while True:
            delivered, data = try_next(self._reader, TURN_S)
            if delivered:
                return data
            # Turns are counted, not seconds: while the whole job is suspended none passes.
            turns += 1
            stopped = [pid for worker in workers_of(self._reader) if (pid := worker.pid) and _is_stopped(pid)]
            stopped_turns = stopped_turns + 1 if stopped else 0
            if stopped and (stopped_turns * TURN_S >= STOPPED_S or self.stop_asked()):
                raise self._failure(f"(pid {stopped[0]}) is stopped (SIGSTOP): nothing was delivered any more")
            if turns * TURN_S >= (ENDING_S if self.stop_asked() else ANSWER_S):
                raise self._failure(
                    f"has not delivered a batch for {turns * TURN_S:.0f} s: look at the disk or file server of the data"
                )

    def _failure(self, what: str) -> Failure:
        """The error of a worker; all are killed, as one that is stopped would not heed the loader's end."""
        for worker in workers_of(self._reader):
            worker.kill()
        return Failure(f"a worker process of loader torch {what}")

    def close(self) -> None:
        """End the worker processes; one that does not end within seconds is killed."""
        self._end()


def _call(method: weakref.WeakMethod[Callable[[], tuple]]) -> tuple:
    wait = method()
    assert wait is not None  # the loader iterates, so it exists
    return wait()


def _how(exitcode: int) -> str:
    return f"by signal {signal.Signals(-exitcode).name}" if exitcode < 0 else f"with exit code {exitcode}"


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _slots(spec: LoaderSpec, workers: int) -> torch.Tensor | None:
    """Memory for the batches under way, the one being read by the trainer and one to spare; None where it is no gain.

    For a GPU batches are copied to pinned memory by a thread that does not say when it is done.
    """
    if not workers or not isinstance(spec.split, EncodedSplit) or spec.world.device.type != "cpu":
        return None
    shape = (workers * PREFETCH + 2, spec.batch, spec.read_size, spec.read_size, spec.dataset.channels)
    if _start_method() != "fork":
        return torch.empty(shape, dtype=torch.uint8).share_memory_()
    # What a fork inherits needs no file, and does not count to /dev/shm, of which a container has but 64 MB.
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape)), dtype=torch.uint8).view(shape)


class _Requests:
    """Requests for the next batches, as DataLoader's sampler: (epoch, indices) for each batch."""

    def __init__(self) -> None:
        self.items: Iterable[tuple[int, np.ndarray]] = ()
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return iter(self.items)

    def __len__(self) -> int:
        return self.count


def _start_method() -> str:
    # Fork shares the set and the imported modules, and starts in milliseconds; elsewhere than on Linux it is unsafe.
    return "fork" if sys.platform == "linux" else "spawn"


def _begin_worker(_: int) -> None:
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def _unchanged(sample: object) -> object:
    return sample
