"""Loader `torch`: worker processes of torch's DataLoader read and decode; augmentation runs on the device."""

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
"""Number of batches that each worker reads ahead: enough to hide a slow file, few enough to fit in memory."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
"""Signals that workers ignore. Slurm, torchrun and terminals send them to all processes, but only the trainer may act
on them."""


TURN_S = 1.0
"""Timeout of one wait for a worker, in seconds."""
STOPPED_S, ENDING_S, ANSWER_S = 30.0, 10.0, 600.0
"""Timeouts in seconds after which the run fails: for a suspended worker, for any worker after the run was requested to
stop, and for any worker otherwise."""
ADVICE = (
    "after SIGKILL check for a lack of memory, after SIGBUS for a full /dev/shm: fewer --data.workers need less of both"
)


class TorchLoader(ChunkLoader):
    """Each worker reads whole batches. Results do not depend on which worker reads which batch."""

    name = "torch"

    def __init__(self, spec: LoaderSpec, reason: str) -> None:
        super().__init__(spec, reason)
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
        # Workers start here, before this process has other threads: a fork would copy locks that those hold.
        start_workers(self._reader)
        if workers:
            wait = weakref.WeakMethod(self._wait)  # no reference cycle: the loader must not wait for garbage collection
            replace_wait(self._reader, lambda: _call(wait))
        # A loader that was not closed must not block the process's exit: workers ignore SIGTERM.
        self._end = weakref.finalize(self, end_workers, self._reader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of `epoch`, after the first `start` samples (counted over all ranks).

        Raises:
            UserError: a file cannot be read, and data.on_error is raise.
            Failure: a worker process ended, is suspended or does not respond.
        """
        steps = list(self.spec.steps(epoch, start))
        self.requests.items = self._batch_requests(epoch, start)
        self.requests.count = len(steps)
        for step, chunk in zip(steps, self._chunks(), strict=True):
            if chunk.error:
                raise UserError(chunk.error)
            yield self.batch(step, chunk, chunk.images)

    def _batch_requests(self, epoch: int, start: int) -> Iterator[tuple]:
        # No worker is busy here: if the previous epoch was left early, DataLoader has waited for its requests.
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
        """Wait for the next result of a worker; replaces DataLoader's `_get_data`, which has no timeout.

        Raises:
            RuntimeError: a worker has ended.
            Failure: a worker is suspended or does not respond.
        """
        turns, stopped_turns = 0, 0
        while True:
            delivered, data = try_next(self._reader, TURN_S)
            if delivered:
                return data
            # Turns are counted instead of seconds, so that the time in which the whole job is suspended does not count.
            turns += 1
            stopped = [pid for worker in workers_of(self._reader) if (pid := worker.pid) and _is_stopped(pid)]
            stopped_turns = stopped_turns + 1 if stopped else 0
            if stopped and (stopped_turns * TURN_S >= STOPPED_S or self.stop_requested()):
                raise self._failure(f"(pid {stopped[0]}) is suspended (SIGSTOP) and delivers no batches")
            if turns * TURN_S >= (ENDING_S if self.stop_requested() else ANSWER_S):
                raise self._failure(
                    f"has not delivered a batch for {turns * TURN_S:.0f} s: check the disk or file server of the data"
                )

    def _failure(self, problem: str) -> Failure:
        """Kill all workers and return the error: a suspended worker would not react when the loader is closed."""
        for worker in workers_of(self._reader):
            worker.kill()
        return Failure(f"a worker process of loader torch {problem}")

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
    """Allocate memory for the batches in flight, the one that the trainer uses, and one more; None if not useful.

    For a GPU it is not used: a thread copies batches to pinned memory and does not report when it is done.
    """
    if not workers or not isinstance(spec.split, EncodedSplit) or spec.world.device.type != "cpu":
        return None
    shape = (workers * PREFETCH + 2, spec.batch, spec.read_size, spec.read_size, spec.dataset.channels)
    if _start_method() != "fork":
        return torch.empty(shape, dtype=torch.uint8).share_memory_()
    # Memory that a fork inherits needs no file and takes nothing of /dev/shm, of which a container has only 64 MB.
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape)), dtype=torch.uint8).view(shape)


class _Requests:
    """Sampler for DataLoader whose items are requests for batches: (epoch, indices), and a slot if there are any."""

    def __init__(self) -> None:
        self.items: Iterable[tuple[int, np.ndarray]] = ()
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return iter(self.items)

    def __len__(self) -> int:
        return self.count


def _start_method() -> str:
    # Fork shares the data set and the imported modules and starts in milliseconds; it is safe on Linux only.
    return "fork" if sys.platform == "linux" else "spawn"


def _begin_worker(_: int) -> None:
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def _unchanged(sample: object) -> object:
    return sample
