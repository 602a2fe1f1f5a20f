"""Ranks of one job, forked from a server that has imported torch, on emulated hosts of this machine or on loopback.

Such a rank starts in milliseconds. Importing torch takes seconds of a core, so that a job of twelve ranks on two cores
would measure imports.
"""

import contextlib
import io
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

from distdl.launchers.netns import INTERFACE, Hosts, enter

PRELOAD = ["torch", "torch._dynamo", "distdl.training.session", "distdl.strategies.paramserver.worker"]


def run(
    work: Callable[..., Any], *arguments: Any, ranks: int, hosts: Hosts | None = None, timeout: float = 240
) -> list[Any]:
    """Call work(rank, *arguments) in `ranks` processes, rank r on host r. Returns their results by rank.

    Args:
        work: a function of a module; what it returns is pickled.
        hosts: hosts of the ranks; without them all ranks use loopback.
    Raises:
        RuntimeError: a rank failed, or did not end in time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    pipes, processes = [], []
    for rank, place in enumerate(_places(ranks, hosts)):
        receiver, sender = context.Pipe(duplex=False)
        namespace = hosts.hosts[rank].namespace if hosts else ""
        process = context.Process(target=_rank, args=(work, rank, arguments, place, namespace, sender))
        process.start()
        sender.close()
        pipes.append(receiver)
        processes.append(process)
    with _ended(processes):
        return _gather(pipes, processes, timeout)


def _gather(pipes: list[Any], processes: list[BaseProcess], timeout: float) -> list[Any]:
    deadline, results = time.monotonic() + timeout, []
    for rank, (pipe, process) in enumerate(zip(pipes, processes, strict=True)):
        try:
            if not pipe.poll(max(deadline - time.monotonic(), 0)):
                raise RuntimeError(f"rank {rank} was not done in {timeout:.0f} s")
            results.append(pipe.recv())
        except EOFError:
            process.join()
            raise RuntimeError(f"rank {rank} failed with exit code {process.exitcode}") from None
    return results


@contextlib.contextmanager
def _ended(processes: list[BaseProcess]) -> Iterator[None]:
    try:
        yield
        for process in processes:
            process.join(20)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


def _places(ranks: int, hosts: Hosts | None) -> list[dict[str, str]]:
    """Environment variables that torchrun would set for each rank."""
    alone = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    if hosts:
        rendezvous = {"MASTER_ADDR": hosts.hosts[0].address, "MASTER_PORT": "29500", **INTERFACE}
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        rendezvous["GLOO_SOCKET_IFNAME"] = "lo"
    return [{"WORLD_SIZE": str(ranks), "RANK": str(rank), **alone, **rendezvous} for rank in range(ranks)]


def _rank(
    work: Callable[..., Any], rank: int, arguments: tuple[Any, ...], place: dict[str, str], namespace: str, pipe: Any
) -> None:
    os.environ.update(place)
    if namespace:
        enter(namespace)
    with contextlib.redirect_stdout(io.StringIO()):
        pipe.send(work(rank, *arguments))
    pipe.close()
