"""A process pool that survives crashes: if a process dies, only the item that caused this is lost."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from typing import TypeVar

import torch

Item = TypeVar("Item")
R = TypeVar("R")
AHEAD = 2
"""Batches in flight per process: one being processed, one waiting."""


def surviving_map(
    function: Callable[[Sequence[Item]], list[R]], batches: Iterable[Sequence[Item]], processes: int
) -> Iterator[tuple[Sequence[Item], list[R] | None]]:
    """Call `function` on batches of items in other processes; yield each batch with its results, in any order.

    If a process dies (segmentation fault of a decoder, SIGKILL for lack of memory), the batches in flight are repeated
    in a single process, and halved until the item that crashes the process is found: it is yielded alone, with None.

    Args:
        function: an importable function that returns one result per item.
    """
    remaining = iter(batches)
    suspects: deque[Sequence[Item]] = deque()
    exhausted = False
    while not exhausted or suspects:
        while suspects:
            yield from _bisect(function, suspects)
        with _pool(processes) as pool:
            futures: dict[Future[list[R]], Sequence[Item]] = {}
            try:
                while not suspects:
                    for batch in islice(remaining, processes * AHEAD - len(futures)):
                        try:
                            futures[pool.submit(function, batch)] = batch
                        except BrokenProcessPool:
                            suspects.append(batch)
                            raise
                    if not futures:
                        exhausted = True
                        break
                    for future in wait(futures, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield futures.pop(future), result
            except BrokenProcessPool:
                suspects.extend(futures.values())
            finally:
                pool.shutdown(cancel_futures=True)


def _bisect(
    function: Callable[[Sequence[Item]], list[R]], suspects: deque[Sequence[Item]]
) -> Iterator[tuple[Sequence[Item], list[R] | None]]:
    """Process suspects in one process until all are done or it dies; then put the two halves of its batch first."""
    with _pool(1) as pool:
        while suspects:
            batch = suspects.popleft()
            try:
                yield batch, pool.submit(function, batch).result()
            except BrokenProcessPool:
                if len(batch) == 1:
                    yield batch, None
                else:
                    suspects.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
                return


def _pool(processes: int) -> ProcessPoolExecutor:
    # Fork shares the imported modules and starts in milliseconds; it is safe on Linux only.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)


def _begin() -> None:
    torch.set_num_threads(1)  # a fork does not inherit the parent's OpenMP threads, and would wait for them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)
