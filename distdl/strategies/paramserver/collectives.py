"""Collectives of the workers via server 0, which also work after a worker has died."""

import torch

from distdl.strategies.paramserver.protocol import REDUCTIONS, MessageType, Peer
from distdl.strategies.text import ReduceOp


class ServerCollectives:
    """Collectives of the worker with rank `rank`, reduced by `server`."""

    def __init__(self, server: Peer, rank: int) -> None:
        self._server, self._rank = server, rank

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        """Reduce `tensor` in place over all living workers."""
        server, data = self._server, tensor.detach().reshape(-1).to("cpu", torch.float64)
        header = server.send_header(MessageType.REDUCE, list(REDUCTIONS).index(op), data.numel())
        server.finish(header, server.send(data))
        server.receive_reply(MessageType.REDUCE)
        server.finish(server.receive(data))
        tensor.copy_(data.reshape(tensor.shape).to(tensor.dtype))
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        """Copy the tensor of rank `source` to all workers, in place."""
        if self._rank != source:
            tensor.zero_()
        return self.all_reduce(tensor)

    def barrier(self) -> None:
        """Wait for all living workers."""
        self.all_reduce(torch.zeros(1))
