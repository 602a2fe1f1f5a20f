"""Ports of a launch: which addresses it listens on, and that they serve only processes with the key."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import psutil
import pytest
import torch.distributed as dist

from debian import needs_namespaces
from distdl.runtime.store_client import Connection
from jobs import QUIET, step_of, wait_for

LAUNCH = [sys.executable, "-m", "distdl.cli", "launch"]
TRAINING = ["--profile", "digits", "--epochs", "100000", "--out", "run", *QUIET]
LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


@contextmanager
def running(argv: Sequence[str]) -> Iterator[psutil.Process]:
    """A launch that has trained a step."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: step_of(Path("run")) > 0 or process.poll() is not None, 200, "the first step")
        assert process.poll() is None, process.communicate()[1]
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


def listeners(root: psutil.Process) -> list[tuple[int, str, int]]:
    """Process, address and port of each TCP socket on which a process or one of its descendants listens.

    Reads the table of each process, because processes may be in different network namespaces.
    """
    sockets = []
    for process in (root, *root.children(recursive=True)):
        folder = Path(f"/proc/{process.pid}")
        inodes = {str(link.readlink()) for link in (folder / "fd").iterdir() if link.is_symlink()}
        for name, size in (("tcp", 4), ("tcp6", 16)):
            for line in (folder / "net" / name).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == LISTEN and f"socket:[{rest[5]}]" in inodes:
                    text, port = local.split(":")
                    parts = [bytes.fromhex(text[place : place + 8])[::-1] for place in range(0, 2 * size, 8)]
                    sockets.append((process.pid, _address(b"".join(parts)), int(port, 16)))
    return sockets


def _address(data: bytes) -> str:
    return str(IPv4Address(data) if len(data) == 4 else IPv6Address(data))


def test_listeners_are_found() -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as wide,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        sockets = listeners(psutil.Process())
        assert (os.getpid(), "0.0.0.0", wide.getsockname()[1]) in sockets
        assert (os.getpid(), "::1", six.getsockname()[1]) in sockets


class Planted:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {Path('ran').resolve()}",)


USE_TORCHS_STORE = """
import sys
from datetime import timedelta
import torch.distributed as dist
limit = timedelta(seconds=5)
store = dist.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False, wait_for_workers=False, timeout=limit)
value = bytes.fromhex(sys.argv[2])
store.set("torch.rendezvous.distdl", value)
assert store.get("torch.rendezvous.distdl") == value
"""
"""Sets and reads a key, as in an attack on torchrun."""


def use_torchs_store(port: int, value: bytes) -> int:
    argv = [sys.executable, "-c", USE_TORCHS_STORE, str(port), value.hex()]
    return subprocess.run(argv, stderr=subprocess.DEVNULL, timeout=100).returncode


def test_the_attack_works_on_torchs_store() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    assert use_torchs_store(server.port, b"x") == 0


def send(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
        stranger.sendall(data)


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("ps", marks=pytest.mark.slow)])
def test_a_launch_on_one_host_listens_on_the_loopback_address_and_serves_nobody_without_the_key(strategy: str) -> None:
    with running([*LAUNCH, "--nproc", "2", "--", *TRAINING, "--strategy", strategy]) as process:
        sockets = listeners(process)
        assert sockets
        assert {address for _, address, _ in sockets} == {"127.0.0.1"}
        planted = pickle.dumps(Planted())
        (store,) = [port for pid, _, port in sockets if "distdl.launchers.agent" in psutil.Process(pid).cmdline()]
        assert use_torchs_store(store, planted) != 0
        with pytest.raises(OSError):
            Connection(bytes(32), "127.0.0.1", store)
        for _, _, port in sockets:
            for data in (planted, b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\xff" * 100):
                send(port, data)
        step = step_of(Path("run"))
        wait_for(lambda: step_of(Path("run")) > step, 60, "a step after the attacks")
        assert not Path("ran").exists()
        texts = [" ".join(each.cmdline()) for each in (process, *process.children(recursive=True))]
        keys = {each.environ().get("DISTDL_KEY") for each in process.children(recursive=True)} - {None}
        assert keys and not any(key in text for key in keys for text in texts)


@pytest.mark.slow
def test_a_launch_on_several_hosts_listens_on_the_addresses_between_them() -> None:
    needs_namespaces()
    argv = [*LAUNCH, "--with", "netns", "--hosts", "2", "--", *TRAINING]
    with running(argv) as process:
        addresses = {address for _, address, _ in listeners(process)}
        assert "10.77.0.1" in addresses, "of the store"
        assert addresses <= {"10.77.0.1", "10.77.0.2", "127.0.0.1"}
