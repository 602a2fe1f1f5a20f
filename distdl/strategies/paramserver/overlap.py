"""Overlap of gradient pushes with backward."""

from collections.abc import Callable, Sequence

from torch import nn

from distdl.strategies.paramserver.partition import Assignment


class OverlapPusher:
    """Pushes the gradients of a server as soon as backward has computed all of them.

    Args:
        parameters: in the order of the assignment's tensors.
        push: sends the gradients of a server.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], assignment: Assignment, push: Callable[[int], None]) -> None:
        self.last_micro_batch = True
        """Whether the next backward pass completes the gradients; nothing is pushed in earlier ones."""
        self._push = push
        tensors = [{piece.tensor for piece in pieces} for pieces in assignment]
        self._counts = [len(each) for each in tensors]
        self._missing = list(self._counts)
        for index, parameter in enumerate(parameters):
            servers = [server for server, each in enumerate(tensors) if index in each]
            parameter.register_post_accumulate_grad_hook(lambda _, servers=servers: self._gradient_ready(servers))

    def _gradient_ready(self, servers: Sequence[int]) -> None:
        if not self.last_micro_batch:
            return
        for server in servers:
            self._missing[server] -= 1
            if not self._missing[server]:
                self._missing[server] = self._counts[server]
                self._push(server)
