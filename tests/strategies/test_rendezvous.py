"""Ranks find each other in a store that an earlier round of theirs has filled."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from distdl.strategies.rendezvous import _agree

LIMIT = timedelta(seconds=30)


@pytest.fixture
def port() -> int:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield server.port
    del server


def round_of(port: int, size: int) -> set[str]:
    """What the ranks agree on, each coming when it comes."""

    def rank(number: int) -> str:
        time.sleep(random.random() / 5)
        store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
        return _agree(store, number, size, LIMIT)

    with ThreadPoolExecutor(size) as pool:
        return set(pool.map(rank, range(size)))


def test_every_round_agrees_on_a_name_of_its_own(port: int) -> None:
    rounds = [round_of(port, 3) for _ in range(5)]
    assert [len(names) for names in rounds] == [1] * 5
    assert len(set.union(*rounds)) == 5


def test_a_rank_that_does_not_come_is_not_taken_for_one_that_came_before(port: int) -> None:
    round_of(port, 2)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    with pytest.raises(TimeoutError, match="rank 0 of 2"):
        _agree(store, 0, 2, timedelta(seconds=0.3))
