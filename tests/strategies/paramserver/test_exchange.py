"""Exchange of a step with all servers: buffers, their precision, and what the servers report."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from distdl.strategies.paramserver import exchange
from distdl.strategies.paramserver.exchange import Exchange, ExchangeTimes
from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.partition import Piece
from distdl.strategies.paramserver.protocol import MessageType, Peer
from gpu_fake import on_gpu
from rank_threads import run_ranks
from simulated_time import simulate_time

PIECES = [[Piece(tensor=0, start=0, stop=4)], [Piece(tensor=1, start=0, stop=2), Piece(tensor=1, start=2, stop=3)]]
REPORTS = [(0.25, 3, -1), (0.125, 1, 2)]
"""Seconds of the update, staleness and straggler by server."""
Received = list[tuple[MessageType, list[float], list[float]]]


def server_rank(rank: int, wire: torch.dtype, messages: int) -> Received:
    """A server that answers pushes and pulls with values of its rank, and its report."""
    peer, received = Peer(0, "worker 0", 30.0), []
    size = 4 if rank == 1 else 3
    for number in range(1, messages + 1):
        message, numbers = peer.receive_header()
        gradients = torch.zeros(size, dtype=wire)
        if message is MessageType.PUSH:
            peer.finish(peer.receive(gradients))
        received.append((message, numbers[:3], gradients.tolist()))
        peer.finish(peer.send_header(message, *REPORTS[rank - 1]))
        peer.finish(peer.send(torch.full((size,), 10.0 * number + rank, dtype=wire)))
    return received


def run_exchange(
    work: Callable[[Exchange, list[nn.Parameter]], object], messages: int = 1, wire: torch.dtype = torch.float32
) -> list:
    """Run one worker and two servers. Returns the worker's results and the received messages."""

    def work_of(rank: int) -> object:
        if rank:
            return server_rank(rank, wire, messages)
        parameters = [nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(3))]
        peers = [Peer(server, f"server {server - 1}", 30.0) for server in (1, 2)]
        return work(Exchange(peers, Layout(parameters, PIECES), wire), parameters)

    return run_ranks(3, work_of)


def backward(parameters: list[nn.Parameter]) -> None:
    (parameters[0] * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    (parameters[1] * torch.tensor([5.0, 6.0, 7.0])).sum().backward()


@pytest.mark.parametrize("overlapped", [(), (1,), (0, 1)])
def test_a_step_pushes_to_every_server_once_and_pulls(overlapped: tuple[int, ...]) -> None:
    def step(exchange: Exchange, parameters: list[nn.Parameter]) -> tuple[ExchangeTimes, list[list[float]]]:
        backward(parameters)
        for server in overlapped:
            exchange.push(server, 7, 0.5, 0.75)
        times = exchange.finish(7, 0.5, 0.75)
        return times, [parameter.tolist() for parameter in parameters]

    (times, values), *received = run_exchange(step)
    assert received == [
        [(MessageType.PUSH, [7, 0.5, 0.75], [1, 2, 3, 4])],
        [(MessageType.PUSH, [7, 0.5, 0.75], [5, 6, 7])],
    ]
    assert values == [[11] * 4, [12] * 3]
    assert (times.update_s, times.staleness, times.straggler) == (0.25, 3, 2)  # the largest of both servers
    assert min(times.push_s, times.wait_s, times.pull_s) > 0


def test_each_step_starts_with_its_own_pushes() -> None:
    def steps(exchange: Exchange, parameters: list[nn.Parameter]) -> list[float]:
        starts = []
        for number in (1, 2):
            backward(parameters)
            exchange.finish(number, 1.0, 0.0)
            exchange.layout.clear_gradients()
            starts.append(exchange._start)
        return starts

    starts, first, second = run_exchange(steps, messages=2)
    assert starts[0] < starts[1]
    assert [numbers[0] for _, numbers, _ in first] == [1, 2]
    assert [gradients for _, _, gradients in second] == [[5, 6, 7]] * 2


def test_a_pull_sends_nothing() -> None:
    def pull(exchange: Exchange, parameters: list[nn.Parameter]) -> list[list[float]]:
        backward(parameters)
        exchange.pull()
        return [parameter.tolist() for parameter in parameters]

    values, *received = run_exchange(pull)
    assert values == [[11] * 4, [12] * 3]
    assert [message for rows in received for message, _, _ in rows] == [MessageType.PULL] * 2


def test_sent_numbers_are_rounded_to_the_wire_precision() -> None:
    def step(exchange: Exchange, parameters: list[nn.Parameter]) -> list[torch.Tensor]:
        (parameters[0] * (1 + 2**-10)).sum().backward()
        exchange.finish(1, 1.0, 0.0)
        exchange.pull()
        return [exchange.layout.gradients[0], *parameters]

    (gradients, *parameters), *received = run_exchange(step, messages=2, wire=torch.bfloat16)
    assert received[0][0][2] == [1.0] * 4
    assert gradients.tolist() == [1 + 2**-10] * 4  # the worker's gradients are not changed
    assert [parameter.dtype for parameter in parameters] == [torch.float32] * 2
    assert [parameter.tolist() for parameter in parameters] == [[21] * 4, [22] * 3]


def test_gradients_of_a_gpu_are_copied_to_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros: list[dict[str, object]] = []
    monkeypatch.setattr(torch, "zeros", lambda shape, **more: zeros.append(more))
    on_cpu = torch.ones(3)
    assert exchange._staged(on_cpu, torch.float32) is on_cpu
    exchange._staged(on_cpu, torch.bfloat16)
    exchange._staged(on_gpu(on_cpu), torch.float32)
    assert zeros == [{"dtype": torch.bfloat16, "pin_memory": False}, {"dtype": torch.float32, "pin_memory": True}]


def test_a_delay_appears_in_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gathering for each of two servers takes 1 s of a simulated clock, the reply 3 s, and scattering 5 s."""
    clock = simulate_time(monkeypatch, exchange)

    def delayed(place: object, name: str, seconds: float) -> None:
        plain = getattr(place, name)
        setattr(place, name, lambda *arguments: (clock.advance(seconds), plain(*arguments))[1])

    def step(exchange: Exchange, parameters: list[nn.Parameter]) -> ExchangeTimes:
        backward(parameters)
        delayed(exchange.layout, "gather_gradients", 1)
        delayed(exchange.layout, "scatter_values", 5)
        for peer in exchange.peers:
            delayed(peer, "receive_reply", 3)
        return exchange.finish(7, 0.5, 0.75)

    times = run_exchange(step)[0]
    assert (times.push_s, times.wait_s, times.pull_s) == (2, 6, 10)
