"""A worker's side of a step: push gradients to all servers at once, wait for their answers, pull parameters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distdl.core.errors import Failure
from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.protocol import Command, Peer


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where a step's exchange went, in seconds of this worker's clock."""

    push_s: float
    """From the first gradient sent until the last has left."""
    wait_s: float
    """Until the last server answered: its update, and the other workers."""
    pull_s: float
    """Until the last parameter arrived."""
    update_s: float
    """The slowest server's optimizer, by that server's clock: a part of the wait."""
    staleness: int
    """Updates by others since this worker's last pull, the most of any server."""
    straggler: int
    """The worker that a server finds slower than the others' spread, or -1."""


class Exchange:
    """Sends and receives a layout's buffers.

    Args:
        wire: precision on the network; where it is not the layout's, or the layout is on a GPU, buffers are staged
            through (pinned) host memory.
    """

    def __init__(self, peers: Sequence[Peer], layout: Layout, wire: torch.dtype) -> None:
        self.peers, self.layout = peers, layout
        self._out = [_staged(buffer, wire) for buffer in layout.gradients]
        self._in = [_staged(buffer, wire) for buffer in layout.values]
        self._begun: dict[int, list[Any]] = {}
        self._start = 0.0

    def push(self, server: int, step: int, factor: float, compute_s: float) -> None:
        """Begin to send one server's gradients."""
        if not self._begun:
            self._start = time.perf_counter()
        self.layout.gather_gradients(server)
        if self._out[server] is not self.layout.gradients[server]:
            self._out[server].copy_(self.layout.gradients[server])
        peer = self.peers[server]
        header = peer.send_header(Command.PUSH, step, factor, compute_s)
        self._begun[server] = [header, peer.send(self._out[server])]

    def finish(self, step: int, factor: float, compute_s: float) -> Parts:
        """Push what was not pushed yet, and bring the step's parameters."""
        for server in range(len(self.peers)):
            if server not in self._begun:
                self.push(server, step, factor, compute_s)
        incoming = self._expect()
        for server, peer in enumerate(self.peers):
            peer.finish(*self._begun.pop(server))
        pushed = time.perf_counter()
        answers = [answer(peer, Command.PUSH) for peer in self.peers]
        answered = time.perf_counter()
        self._take(incoming)
        return Parts(
            push_s=pushed - self._start,
            wait_s=answered - pushed,
            pull_s=time.perf_counter() - answered,
            update_s=max(numbers[0] for numbers in answers),
            staleness=int(max(numbers[1] for numbers in answers)),
            straggler=int(max(numbers[2] for numbers in answers)),
        )

    def pull(self) -> None:
        """Bring the parameters as they are now."""
        sent = [peer.send_header(Command.PULL) for peer in self.peers]
        incoming = self._expect()
        for peer, work in zip(self.peers, sent, strict=True):
            peer.finish(work)
            answer(peer, Command.PULL)
        self._take(incoming)

    def _expect(self) -> list[Any]:
        return [peer.receive(buffer) for peer, buffer in zip(self.peers, self._in, strict=True)]

    def _take(self, incoming: list[Any]) -> None:
        for server, peer in enumerate(self.peers):
            peer.finish(incoming[server])
            if self._in[server] is not self.layout.values[server]:
                self.layout.values[server].copy_(self._in[server])
            self.layout.scatter_values(server)


def answer(peer: Peer, command: Command) -> list[float]:
    """A server's answer to `command`. A server may be waiting for other workers: as long as it lives, it is waited for.

    Raises:
        Failure: if the server is gone, or says that a worker is.
    """
    got, numbers = peer.receive_header(patient=True)
    if got is Command.GONE:
        raise Failure(f"worker {int(numbers[0])} is gone, says {peer.name}")
    if got is not command:
        raise AssertionError(f"{peer.name} answered {got.name} to {command.name}")
    return numbers


def _staged(buffer: torch.Tensor, wire: torch.dtype) -> torch.Tensor:
    if buffer.device.type == "cpu" and buffer.dtype is wire:
        return buffer
    return torch.zeros(buffer.shape, dtype=wire, pin_memory=buffer.device.type == "cuda")
