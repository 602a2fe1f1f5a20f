"""torch's operations on the authenticated store of a job."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from distdl.runtime.store import AuthenticatedStore
from distdl.runtime.store_server import StoreServer
from stores import KEY

LIMIT = timedelta(seconds=30)


def client(server: StoreServer, timeout: timedelta = LIMIT) -> AuthenticatedStore:
    return AuthenticatedStore(KEY, "127.0.0.1", [server.port], timeout)


OPERATIONS: dict[str, Callable[[dist.Store], object]] = {
    "set and get": lambda store: (store.set("a", "x"), store.get("a")),
    "bytes": lambda store: (store.set("a", b"\0\xff"), store.get("a")),
    "add": lambda store: (store.add("n", 2), store.add("n", -5), store.get("n")),
    "append": lambda store: (store.append("a", "x"), store.append("a", "y"), store.get("a")),
    "compare_set": lambda store: [
        store.compare_set("a", *pair) for pair in (("x", "y"), ("", "1"), ("x", "2"), ("1", "3"))
    ],
    "check": lambda store: (store.set("a", "x"), store.check(["a"]), store.check(["a", "b"])),
    "delete_key": lambda store: (store.set("a", "x"), store.delete_key("a"), store.delete_key("a"), store.check(["a"])),
    "multi": lambda store: (store.multi_set(["a", "b"], [b"1", b"2"]), store.multi_get(["b", "a"])),
    "queue": lambda store: (
        store.queue_push("q", b"1"),
        store.queue_push("q", b"2"),
        store.queue_len("q"),
        store.queue_pop("q"),
        store.queue_pop("q"),
        store.queue_len("q"),
    ),
    "wait": lambda store: (store.set("a", ""), store.wait(["a"]), store.wait(["a"], timedelta(seconds=1))),
    "extended": lambda store: store.has_extended_api(),
    "clone": lambda store: (store.set("a", "x"), store.clone().get("a")),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_have_the_results_of_torchs_store(server: StoreServer, operation: str) -> None:
    torch_store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    assert OPERATIONS[operation](client(server)) == OPERATIONS[operation](torch_store)


def test_keys_can_be_listed_and_counted(server: StoreServer) -> None:
    store = client(server)
    store.set("b", "1")
    store.set("a", "2")
    assert (sorted(store.list_keys()), store.num_keys()) == (["a", "b"], 2)


def test_a_wait_ends_when_another_client_sets_the_key(server: StoreServer) -> None:
    with ThreadPoolExecutor() as pool:
        value = pool.submit(client(server).get, "late")
        assert not value.done()
        client(server).set("late", "x")
        assert value.result(30) == b"x"


@pytest.mark.parametrize("wait", [lambda store: store.get("a"), lambda store: store.wait(["a"], timedelta(0))])
def test_a_wait_without_the_key_is_a_timeout(server: StoreServer, wait: Callable[[dist.Store], object]) -> None:
    with pytest.raises(dist.DistStoreError, match=r"a in the store of this job: nothing came within 0\S* s"):
        wait(client(server, timedelta(milliseconds=50)))
    assert client(server).num_keys() == 0, "the connection can be used again"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_process_groups_and_their_subgroups_use_it(server: StoreServer, size: int) -> None:
    def rank(number: int) -> list[float]:
        store = client(server)
        group = dist.ProcessGroupGloo(dist.PrefixStore("all", store), number, size, LIMIT)
        tensor = torch.tensor([float(number + 1)])
        group.allreduce([tensor]).wait()
        return tensor.tolist()

    with ThreadPoolExecutor(size) as pool:
        assert list(pool.map(rank, range(size))) == [[sum(range(1, size + 1))]] * size


def test_the_end_of_the_server_is_an_error_in_one_line() -> None:
    with StoreServer(KEY, ["127.0.0.1"]) as server:
        store = client(server, timedelta(milliseconds=50))
        store.set("a", "x")
    with pytest.raises(dist.DistNetworkError, match="the store of this job cannot be reached"):
        store.get("a")


def test_a_server_of_somebody_else_is_passed_over(server: StoreServer) -> None:
    with StoreServer(bytes(32), ["127.0.0.1"]) as other, socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
        closed.close()
        store = AuthenticatedStore(KEY, "127.0.0.1", [free, other.port, server.port], LIMIT)
        store.set("a", "x")
        with pytest.raises(dist.DistNetworkError, match=r"no store of this job on 127.0.0.1 within 0 s"):
            AuthenticatedStore(KEY, "127.0.0.1", [free, other.port], timedelta(0))
    assert client(server).get("a") == b"x"
