"""Averages through shared memory of forked ranks."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from jobs import PRELOAD, torchrun_places
from shared_memory_ranks import averages, modes, one_cannot, run_rank, too_much


def ranks(work: Callable[..., None], count: int) -> list[Any]:
    """Output of each rank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    out = context.SimpleQueue()
    processes = [context.Process(target=run_rank, args=(work, place, out)) for place in torchrun_places(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count
    return [out.get() for _ in processes]


@pytest.mark.parametrize("count", [2, 3])
def test_every_rank_gets_the_mean_and_no_file_remains(count: int) -> None:
    assert ranks(averages, count) == [[]] * count


@pytest.mark.parametrize("work", [one_cannot, too_much])
def test_all_ranks_fall_back_if_one_cannot_map_the_memory(work: Callable[..., None]) -> None:
    assert ranks(work, 2) == [True, True]


def test_no_other_user_can_read_the_gradients() -> None:
    assert sorted(ranks(modes, 2)) == [[], [0o600]]
