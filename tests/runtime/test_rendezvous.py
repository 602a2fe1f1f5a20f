"""Rendezvous of ranks in a store that contains keys of earlier generations of ranks."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch._C._distributed_c10d import TCPStore

from distdl.runtime.rendezvous import _agree_on_prefix

LIMIT = timedelta(seconds=30)


@pytest.fixture
def port() -> Iterator[int]:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield server.port
    del server


def prefixes(port: int, size: int) -> set[str]:
    """Prefixes that the ranks of one generation return, each starting after a random delay."""

    def rank(number: int) -> str:
        time.sleep(random.random() / 5)
        store = TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
        return _agree_on_prefix(store, number, size, LIMIT)

    with ThreadPoolExecutor(size) as pool:
        return set(pool.map(rank, range(size)))


def test_every_generation_agrees_on_a_new_prefix(port: int) -> None:
    generations = [prefixes(port, 3) for _ in range(5)]
    assert [len(names) for names in generations] == [1] * 5
    assert len(set.union(*generations)) == 5


def test_an_absent_rank_is_not_confused_with_its_predecessor(port: int) -> None:
    prefixes(port, 2)
    store = TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    with pytest.raises(TimeoutError, match="rank 0 of 2"):
        _agree_on_prefix(store, 0, 2, timedelta(seconds=0.3))
