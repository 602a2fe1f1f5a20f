"""Messages between a worker and a server over gloo, and errors that name the peer."""

import os
import threading
from collections.abc import Callable

import pytest
import torch

from distdl.core.errors import Failure
from distdl.strategies.paramserver.protocol import HEADER, NAME_BYTES, MessageType, Peer, exchange_names
from rank_threads import run_ranks


def peer_of(rank: int, timeout_s: float = 30.0) -> Peer:
    """Connection to the other one of two ranks."""
    return Peer(1 - rank, f"rank {1 - rank}", timeout_s)


@pytest.mark.world_size(2)
def test_headers_and_payloads_arrive_in_order_by_tag(in_ranks: Callable) -> None:
    def exchange(rank: int) -> list[object]:
        peer, payload = peer_of(rank), torch.zeros(3)
        if rank == 0:
            payload = peer.send(torch.tensor([1.0, 2.0, 3.0]))
            headers = [peer.send_header(MessageType.PUSH, 7, 0.125, -1.5), peer.send_header(MessageType.DONE)]
            peer.finish(payload, None, *headers)
            return []
        headers = [peer.receive_header(), peer.receive_header(patient=True)]
        peer.finish(peer.receive(payload))
        return [*headers, payload.tolist()]

    received = in_ranks(exchange)[1]
    assert received == [
        (MessageType.PUSH, [7, 0.125, -1.5, 0, 0]),
        (MessageType.DONE, [0] * (HEADER - 1)),
        [1, 2, 3],
    ]


def answer(*message: float | MessageType) -> list[float]:
    """Numbers that a worker receives after PUSH, if the server answers with this header."""

    def exchange(rank: int) -> list[float] | None:
        peer = peer_of(rank)
        if rank == 1:
            return peer.finish(peer.send_header(*message))
        return peer.receive_reply(MessageType.PUSH)

    return run_ranks(2, exchange)[0]


def test_the_answer_has_the_type_of_the_message() -> None:
    assert answer(MessageType.PUSH, 0.5, 3) == [0.5, 3, 0, 0, 0]
    with pytest.raises(AssertionError, match="rank 1 replied PULL to PUSH"):
        answer(MessageType.PULL)
    with pytest.raises(Failure, match=r"^rank 1 reports that worker 2 disconnected$"):
        answer(MessageType.GONE, 2)


@pytest.mark.world_size(2)
def test_a_peer_that_does_not_respond_is_named(in_ranks: Callable) -> None:
    ended = threading.Event()

    def exchange(rank: int) -> None:
        if rank == 1:
            ended.wait(30)
            return
        try:
            peer_of(rank, timeout_s=0.05).receive_header()
        finally:
            ended.set()

    with pytest.raises(Failure, match=r"^rank 1 did not respond in time \(ps.timeout_s\)$"):
        in_ranks(exchange)


@pytest.mark.world_size(2)
def test_a_disconnected_peer_is_named_even_without_a_timeout(in_ranks: Callable) -> None:
    def exchange(rank: int) -> None:
        if rank == 0:
            peer_of(rank).receive_header(patient=True)

    with pytest.raises(Failure, match=r"^rank 1 disconnected$"):
        in_ranks(exchange)


@pytest.mark.world_size(3)
def test_names_of_all_ranks_are_exchanged(in_ranks: Callable) -> None:
    names = [os.fsdecode(b"host\xe9"), "x" * (NAME_BYTES + 20), ""]
    assert in_ranks(lambda rank: exchange_names(names[rank])) == [[names[0], "x" * NAME_BYTES, ""]] * 3


def test_numbers_of_the_messages_are_fixed() -> None:
    """The first number must not be 0, which is the value in an empty header."""
    assert [message.value for message in MessageType] == list(range(1, 10))
