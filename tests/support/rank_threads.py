"""Ranks as threads of one process, each with its own gloo group: a test of two ranks takes milliseconds.

torch stores its groups in one global object. Here each rank has its own, as in torch's tests: a thread has the
groups of the thread that started it. The groups are real, and connect through the loopback interface.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _set_thread_isolation_mode
from torch.distributed import distributed_c10d
from torch.testing._internal.distributed.multi_threaded_pg import ThreadLocalWorld, WorldData

Result = TypeVar("Result")
LIMIT = timedelta(seconds=60)


def run_ranks(size: int, work: Callable[[int], Result]) -> list[Result]:
    """Call `work(rank)` in one thread per rank. Returns the results by rank; raises the error of the first rank."""
    store, results, errors = dist.HashStore(), {}, {}

    def rank_thread(rank: int) -> None:
        ThreadLocalWorld._world.world = WorldData()
        try:
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=LIMIT)
            dist.all_reduce(torch.zeros(1))  # a rank must not end while the others are still connecting
            results[rank] = work(rank)
        except BaseException as error:
            errors[rank] = error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    with _groups_by_rank(), _one_seed_at_a_time():
        threads = [threading.Thread(target=rank_thread, args=(rank,), daemon=True) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * LIMIT.total_seconds())
    if errors:
        raise errors[min(errors)]
    return [results[rank] for rank in range(size)]


@contextmanager
def _one_seed_at_a_time() -> Iterator[None]:
    """Let one thread at a time seed torch's generator and draw from it: all of them share it."""
    fork, lock = torch.random.fork_rng, threading.Lock()

    @contextmanager
    def fork_alone(*args: Any, **kwargs: Any) -> Iterator[None]:
        with lock, fork(*args, **kwargs):
            yield

    torch.random.fork_rng = fork_alone
    try:
        yield
    finally:
        torch.random.fork_rng = fork


@contextmanager
def _groups_by_rank() -> Iterator[None]:
    previous, start = distributed_c10d._world, threading.Thread.start

    def start_with_groups(thread: threading.Thread) -> None:
        groups, run = getattr(ThreadLocalWorld._world, "world", None), thread.run

        def run_with_groups() -> None:
            if groups is not None:
                ThreadLocalWorld._world.world = groups
            run()

        thread.run = run_with_groups
        start(thread)

    distributed_c10d._world, threading.Thread.start = ThreadLocalWorld(), start_with_groups
    _set_thread_isolation_mode(True)  # for the names of groups
    try:
        yield
    finally:
        _set_thread_isolation_mode(False)
        distributed_c10d._world, threading.Thread.start = previous, start
