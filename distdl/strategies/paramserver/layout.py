"""How a network's tensors lie in one flat buffer a server: views where a tensor is whole, copies where it is sliced."""

from collections.abc import Sequence

import torch

from distdl.strategies.paramserver.partition import Assignment


class Layout:
    """Parameters and gradients of the tensors that train, by server.

    A tensor that lies on one server becomes a view into that server's buffers: backward writes its gradient straight to
    where it is sent from, and parameters are used where they arrive. Only sliced tensors are copied.
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
                parameter, here = parameters[piece.tensor], slice(offset, offset + piece.size)
                offset += piece.size
                if piece.size == parameter.numel() and _dense(parameter):
                    self._make_view(parameter, server, here)
                else:
                    self._sliced[server].append((parameter, slice(piece.start, piece.stop), here))
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.gather_values()

    @torch.no_grad()
    def _make_view(self, parameter: torch.nn.Parameter, server: int, here: slice) -> None:
        shape, stride = parameter.shape, parameter.stride()
        value = self.values[server].as_strided(shape, stride, here.start)
        value.copy_(parameter)
        parameter.data = value
        parameter.grad = self.gradients[server].as_strided(shape, stride, here.start)

    @torch.no_grad()
    def gather_gradients(self, server: int) -> None:
        """Bring the gradients of sliced tensors into the server's buffer."""
        for parameter, part, here in self._sliced[server]:
            self.gradients[server][here] = parameter.grad.reshape(-1)[part]

    @torch.no_grad()
    def gather_values(self) -> None:
        """Bring the values of sliced tensors into the buffers."""
        for server, sliced in enumerate(self._sliced):
            for parameter, part, here in sliced:
                self.values[server][here] = parameter.reshape(-1)[part]

    @torch.no_grad()
    def scatter_values(self, server: int) -> None:
        """Bring what arrived from the server to the sliced tensors."""
        for parameter, part, here in self._sliced[server]:
            flat = parameter.reshape(-1)
            flat[part] = self.values[server][here]
            if flat.data_ptr() != parameter.data_ptr():
                parameter.copy_(flat.view_as(parameter))

    def clear_gradients(self) -> None:
        """Zeros, in place: backward adds to them."""
        for buffer in self.gradients:
            buffer.zero_()
        for sliced in self._sliced:
            for parameter, _, _ in sliced:
                parameter.grad.zero_()


def _dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor covers its memory without gaps, so that a view of as many elements can take its strides."""
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
