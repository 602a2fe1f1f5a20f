"""A network's tensors in one flat buffer per server: complete tensors are views of it, sliced tensors are copied."""

from collections.abc import Sequence

import torch

from distdl.strategies.paramserver.partition import Assignment


class Layout:
    """Parameters and gradients of the trainable tensors, by server.

    A tensor that is complete on one server becomes a view of that server's buffers: backward writes its gradient into
    the send buffer, and forward reads its values from the receive buffer.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], assignment: Assignment) -> None:
        sizes = [sum(piece.size for piece in pieces) for pieces in assignment]
        device = parameters[0].device
        self.values = [torch.zeros(size, device=device) for size in sizes]
        self.gradients = [torch.zeros(size, device=device) for size in sizes]
        self._sliced: list[list[tuple[torch.nn.Parameter, slice, slice]]] = [[] for _ in sizes]
        for server, pieces in enumerate(assignment):
            offset = 0
            for piece in pieces:
                parameter, span = parameters[piece.tensor], slice(offset, offset + piece.size)
                offset += piece.size
                if piece.size == parameter.numel() and _dense(parameter):
                    self._make_view(parameter, server, span)
                else:
                    self._sliced[server].append((parameter, slice(piece.start, piece.stop), span))
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.gather_values()

    @torch.no_grad()
    def _make_view(self, parameter: torch.nn.Parameter, server: int, span: slice) -> None:
        shape, stride = parameter.shape, parameter.stride()
        value = self.values[server].as_strided(shape, stride, span.start)
        value.copy_(parameter)
        parameter.data = value
        parameter.grad = self.gradients[server].as_strided(shape, stride, span.start)

    @torch.no_grad()
    def gather_gradients(self, server: int) -> None:
        """Copy the gradients of sliced tensors into the server's buffer."""
        for parameter, part, span in self._sliced[server]:
            self.gradients[server][span] = _gradient(parameter).reshape(-1)[part]

    @torch.no_grad()
    def gather_values(self) -> None:
        """Copy the values of sliced tensors into the buffers."""
        for server, sliced in enumerate(self._sliced):
            for parameter, part, span in sliced:
                self.values[server][span] = parameter.reshape(-1)[part]

    @torch.no_grad()
    def scatter_values(self, server: int) -> None:
        """Copy the values received from the server to the sliced tensors."""
        for parameter, part, span in self._sliced[server]:
            flat = parameter.reshape(-1)
            flat[part] = self.values[server][span]
            if flat.data_ptr() != parameter.data_ptr():
                parameter.copy_(flat.view_as(parameter))

    def clear_gradients(self) -> None:
        """Set gradients to zero in place, because backward adds to them."""
        for buffer in self.gradients:
            buffer.zero_()
        for sliced in self._sliced:
            for parameter, _, _ in sliced:
                _gradient(parameter).zero_()


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The gradient buffer that `Layout` has allocated."""
    if parameter.grad is None:
        raise AssertionError("a gradient of a parameter server's layout was set to None")
    return parameter.grad


def _dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor has no gaps in memory, so that a flat buffer of its size can be viewed with its strides."""
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
