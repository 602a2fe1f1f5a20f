"""Rendezvous of the ranks of a job."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from distdl.core.errors import Failure
from distdl.runtime.launch_env import JobStore, Placement, store_ports
from distdl.runtime.rendezvous import _agree_on_prefix, _check_ranks, connect
from jobs import QUIET, Ranks, free_port
from rank_threads import run_ranks

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


@pytest.mark.parametrize("strangers", [[1], [0, 2]])
def test_a_rank_without_the_key_is_named(strangers: list[int]) -> None:
    """gloo checks nothing, so that another program may answer at the address of a rank."""
    key = bytes(range(32))

    def rank(number: int) -> str:
        store = dist.distributed_c10d._get_default_store()
        with pytest.raises(Failure) as error:
            _check_ranks(store, bytes(32) if number in strangers else key, Placement(rank=number, size=3))
        return str(error.value)

    names = ", ".join(map(str, strangers))
    for number, message in enumerate(run_ranks(3, rank)):
        if number not in strangers:
            assert message == f"another program has connected to this job instead of rank {names}"


def test_ranks_with_the_key_accept_each_other() -> None:
    def rank(number: int) -> None:
        store = dist.distributed_c10d._get_default_store()
        _check_ranks(store, bytes(32), Placement(rank=number, size=3))

    run_ranks(3, rank)


def test_rank_0_serves_the_store_on_the_loopback_address_and_the_others_find_it() -> None:
    job = JobStore(key=bytes(32), host="no-such-host.invalid", ports=tuple(store_ports(bytes(32))), is_served=False)
    placements = [Placement(rank=rank, size=2, local_rank=rank, local_size=2) for rank in range(2)]
    with ThreadPoolExecutor() as pool:
        second = pool.submit(connect, job, placements[1], LIMIT)
        first = connect(job, placements[0], LIMIT)
        first.set("a", "x")
        assert second.result(60).get("a") == b"x"
        assert first._server is not None and second.result()._server is None
        listening = {each.getsockname()[0] for each in first._server._sockets}
        first._server.close()
    assert listening == {"127.0.0.1"}


OPEN = "of this job is open to everybody who can reach this host"


@pytest.mark.world_size(2)
@pytest.mark.parametrize("strategy", ["ddp", "ps"])
def test_a_training_at_torchs_store_has_one_warning(tmp_path: Path, strategy: str) -> None:
    port = free_port()
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    job = Ranks(["--max-steps", "2", "--strategy", strategy, "--out", str(tmp_path / "a"), *QUIET], places=places)
    assert job.wait() == [0, 0], job.text
    assert job.text.count(OPEN) == 1 and f"warning: port {port} {OPEN}" in job.text
    keyed = Ranks(["--max-steps", "2", "--strategy", strategy, "--out", str(tmp_path / "b"), *QUIET], ranks=2)
    assert keyed.wait() == [0, 0], keyed.text
    assert OPEN not in keyed.text
