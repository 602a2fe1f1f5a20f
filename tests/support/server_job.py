"""A parameter-server job whose ranks are threads: workers defined by a test, and one server."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from distdl.core.config import Config
from distdl.strategies.paramserver.exchange import Exchange
from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.partition import Piece
from distdl.strategies.paramserver.protocol import MessageType, Peer
from distdl.strategies.paramserver.requests import set_parameters
from distdl.strategies.paramserver.server import Server
from rank_threads import run_ranks

GROUP = {"peak_lr": 0.5, "weight_decay": 0.0, "penalised": True}


def run_job(
    config: Config,
    workers: int,
    work: Callable[[int, Peer], Any],
    *,
    wire: torch.dtype = torch.float32,
    serve: Callable[[Server], None] = Server.serve,
) -> tuple[list[Any], Server]:
    """Run the job. Returns the results of `work(rank, peer)` by worker, and the server to which `peer` is connected."""

    def work_of(rank: int) -> Any:
        if rank == workers:
            peers = [Peer(worker, f"worker {worker}", 30.0) for worker in range(workers)]
            server = Server(config, 0, peers, wire)
            serve(server)
            if serve is not Server.serve:
                for end in peers:
                    end.receive_header()
            return server
        peer = Peer(workers, "server 0", 30.0)
        try:
            return work(rank, peer)
        finally:
            peer.finish(peer.send_header(MessageType.DONE))

    *results, server = run_ranks(workers + 1, work_of)
    return results, server


def exchange_of(
    peer: Peer, sizes: Sequence[int] = (2,), wire: torch.dtype = torch.float32
) -> tuple[list[nn.Parameter], Exchange]:
    """Parameters of ones, stored on the one server, and their exchange."""
    parameters = [nn.Parameter(torch.ones(size)) for size in sizes]
    pieces = [Piece(tensor=index, start=0, stop=size) for index, size in enumerate(sizes)]
    return parameters, Exchange([peer], Layout(parameters, [pieces]), wire)


def set_on(peer: Peer, exchange: Exchange, *groups: dict[str, Any]) -> None:
    """Send the initial values of the exchange, with the optimizer settings of its tensors, which have equal sizes."""
    groups = groups or (GROUP,)
    size = exchange.layout.values[0].numel() // len(groups)
    pieces = [Piece(tensor=index, start=0, stop=size) for index in range(len(groups))]
    set_parameters([peer], exchange.layout, [pieces], groups)
