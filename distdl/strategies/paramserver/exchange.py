"""Exchange of one step: a worker pushes gradients to all servers, waits for their replies, and pulls parameters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.protocol import MessageType, Peer, Transfer


@dataclass(frozen=True, kw_only=True)
class ExchangeTimes:
    """Durations of a step's exchange by the clock of this worker, and values from the servers."""

    push_s: float
    """Seconds from the start of sending the first gradient until the last gradient was sent."""
    wait_s: float
    """Seconds from then until the last server replied; includes its update and its wait for other workers."""
    pull_s: float
    """Seconds from then until the last parameter arrived."""
    update_s: float
    """Seconds of the slowest server's optimizer step, by the clock of that server; part of `wait_s`."""
    staleness: int
    """Updates by other workers since this worker's last pull; maximum over the servers."""
    straggler: int
    """Worker that a server identified as a straggler, or -1."""


class Exchange:
    """Sends and receives a layout's buffers.

    Args:
        wire: data type on the network. If it differs from the layout's, or the layout is on a GPU, buffers are staged
            in (pinned) host memory.
    """

    def __init__(self, peers: Sequence[Peer], layout: Layout, wire: torch.dtype) -> None:
        self.peers, self.layout = peers, layout
        self._out = [_staged(buffer, wire) for buffer in layout.gradients]
        self._in = [_staged(buffer, wire) for buffer in layout.values]
        self._pushes: dict[int, list[Transfer | None]] = {}
        self._start = 0.0

    def push(self, server: int, step: int, factor: float, compute_s: float) -> None:
        """Start to send the gradients of one server."""
        if not self._pushes:
            self._start = time.perf_counter()
        self.layout.gather_gradients(server)
        if self._out[server] is not self.layout.gradients[server]:
            self._out[server].copy_(self.layout.gradients[server])
        peer = self.peers[server]
        header = peer.send_header(MessageType.PUSH, step, factor, compute_s)
        self._pushes[server] = [header, peer.send(self._out[server])]

    def finish(self, step: int, factor: float, compute_s: float) -> ExchangeTimes:
        """Push the remaining gradients, and pull the updated parameters."""
        for server in range(len(self.peers)):
            if server not in self._pushes:
                self.push(server, step, factor, compute_s)
        incoming = self._begin_receiving()
        for server, peer in enumerate(self.peers):
            peer.finish(*self._pushes.pop(server))
        pushed = time.perf_counter()
        replies = [peer.receive_reply(MessageType.PUSH) for peer in self.peers]
        replied = time.perf_counter()
        self._finish_receiving(incoming)
        return ExchangeTimes(
            push_s=pushed - self._start,
            wait_s=replied - pushed,
            pull_s=time.perf_counter() - replied,
            update_s=max(numbers[0] for numbers in replies),
            staleness=int(max(numbers[1] for numbers in replies)),
            straggler=int(max(numbers[2] for numbers in replies)),
        )

    def pull(self) -> None:
        """Pull the current parameters."""
        sent = [peer.send_header(MessageType.PULL) for peer in self.peers]
        incoming = self._begin_receiving()
        for peer, transfer in zip(self.peers, sent, strict=True):
            peer.finish(transfer)
            peer.receive_reply(MessageType.PULL)
        self._finish_receiving(incoming)

    def _begin_receiving(self) -> list[Transfer | None]:
        return [peer.receive(buffer) for peer, buffer in zip(self.peers, self._in, strict=True)]

    def _finish_receiving(self, incoming: list[Transfer | None]) -> None:
        for server, peer in enumerate(self.peers):
            peer.finish(incoming[server])
            if self._in[server] is not self.layout.values[server]:
                self.layout.values[server].copy_(self._in[server])
            self.layout.scatter_values(server)


def _staged(buffer: torch.Tensor, wire: torch.dtype) -> torch.Tensor:
    if buffer.device.type == "cpu" and buffer.dtype is wire:
        return buffer
    return torch.zeros(buffer.shape, dtype=wire, pin_memory=buffer.device.type == "cuda")
