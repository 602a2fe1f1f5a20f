"""The server of a job's store: nothing for strangers."""

import asyncio
import os
import pickle
import secrets
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from distdl.runtime import store_server
from distdl.runtime.channel import HEADER, KEY_BYTES, pack
from distdl.runtime.store import AuthenticatedStore
from distdl.runtime.store_client import Connection
from distdl.runtime.store_server import KeyTable, StoreServer
from stores import KEY, client


def received(stranger: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    data = b""
    try:
        while part := stranger.recv(4096):
            data += part
    except ConnectionResetError:
        pass
    return data


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_a_client_without_the_key_can_neither_list_read_nor_set(server: StoreServer, tmp_path: Path) -> None:
    owner = client(server)
    owner.ask("set", "secret", "weights")
    planted = pickle.dumps(Planted(tmp_path / "ran"))
    address = ("127.0.0.1", server.port)
    for key in (bytes(32), secrets.token_bytes(32)):
        with pytest.raises(OSError):
            Connection(key, *address)
    with pytest.raises(dist.DistNetworkError, match=r"no store of this job on 127.0.0.1"):
        AuthenticatedStore(bytes(32), "127.0.0.1", [server.port], timedelta(0))
    request = pack([b"set", b"secret", planted])
    sealed = HEADER.pack(len(request), bytes(32)) + request
    for sent in (b"", planted, sealed, bytes(32) + sealed, bytes(64) + sealed, secrets.token_bytes(64) + sealed):
        with socket.create_connection(address, timeout=30) as stranger:
            stranger.sendall(sent)
            stranger.shutdown(socket.SHUT_WR)
            assert len(received(stranger)) == KEY_BYTES, "nothing but a random number"
    assert owner.ask("get", "0", "secret") == [b"weights"]
    assert not (tmp_path / "ran").exists()
    with pytest.raises((dist.DistNetworkError, dist.DistStoreError)):
        dist.TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=1))


def test_strangers_are_disconnected_and_limited(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_server, "MAX_STRANGERS", 3)
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
    try:
        for each in silent:
            assert len(each.recv(100)) == KEY_BYTES
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as further:
            assert received(further) == b"", "closed without a word"
    finally:
        for each in silent:
            each.close()
    assert client(server).ask("list_keys") == [], "there is room again"


def test_a_silent_stranger_is_disconnected(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_server, "HANDSHAKE_S", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
        assert len(silent.recv(100)) == KEY_BYTES
        assert received(silent) == b""


def test_the_first_free_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
        probe.close()
        with StoreServer(KEY, ["127.0.0.1"], [taken.getsockname()[1], free]) as server:
            assert server.port == free
        with pytest.raises(OSError, match="in use"):
            StoreServer(KEY, ["127.0.0.1"], [taken.getsockname()[1]])


CHANGES: dict[str, tuple[list[list[bytes]], bytes]] = {
    "add": ([[b"add", b"n", b"1"]] * 100, b"100"),
    "append": ([[b"append", b"n", b"x"]] * 100, b"x" * 100),
    "compare_set": ([[b"compare_set", b"n", b"", b"%d" % each] for each in range(100)], b"0"),
}


@pytest.mark.parametrize("operation", CHANGES)
def test_no_change_is_lost_among_many(operation: str) -> None:
    changes, expected = CHANGES[operation]

    async def value() -> list[bytes]:
        table = KeyTable()
        waiting = [asyncio.create_task(table.answer([b"wait", b"30000", b"end"])) for _ in range(10)]
        await asyncio.gather(*(table.answer(each) for each in changes))
        await table.answer([b"set", b"end", b"1"])
        await asyncio.gather(*waiting)
        return await table.answer([b"get", b"0", b"n"])

    assert asyncio.run(value())[1:] == [expected]
