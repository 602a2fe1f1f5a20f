"""Requests to the authenticated store, without torch."""

import threading

import pytest

from distdl.runtime import store_client
from distdl.runtime.store_client import Connection
from distdl.runtime.store_server import StoreServer
from stores import client


def test_a_request_that_is_refused_leaves_the_connection(server: StoreServer) -> None:
    requests = client(server)
    for wrong in (("nope",), ("get",), ("add", "a"), ("add", "a", "x"), ("set", "a"), ("wait", "soon", "a")):
        with pytest.raises(ValueError):
            requests.ask(*wrong)
    assert requests.ask("list_keys") == []


def test_an_interrupted_request_does_not_give_its_answer_to_the_next_one(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = client(server)
    requests.ask("set", "a", "1")
    receive = Connection._receive
    monkeypatch.setattr(Connection, "_receive", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        requests.ask("get", "1000", "a")
    monkeypatch.setattr(Connection, "_receive", receive)
    assert requests.ask("check", "a") == [b"1"]


def test_threads_do_not_wait_for_each_other(server: StoreServer) -> None:
    requests = client(server)
    thread = threading.Thread(target=requests.ask, args=("get", "30000", "late"), kwargs={"wait_s": 30})
    thread.start()
    requests.ask("set", "other", "1")
    assert requests.ask("get", "0", "other") == [b"1"] and thread.is_alive()
    requests.ask("set", "late", "1")
    thread.join(30)
    assert not thread.is_alive()


def test_a_late_answer_is_a_timeout(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_client, "MARGIN_S", 0.05)
    requests = client(server)
    with pytest.raises(TimeoutError):
        requests.ask("wait", "30000", "a")
    assert requests.ask("check", "a") == [b"0"], "by a new connection"
