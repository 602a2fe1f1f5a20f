"""Exponential moving average of a network's weights (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from distdl.core.errors import UserError
from distdl.runtime.torch_private import lerp_all


class EMA:
    """Averages every parameter and buffer of a network over its updates; integer buffers are copied.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the initial weights quickly lose their
    influence (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the current weights of `model`; to be called after each weight update."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = list(zip(self.average.values(), _tensors(model).values(), strict=True))
        floats = [(average, value) for average, value in pairs if average.is_floating_point()]
        lerp_all([average for average, _ in floats], [value for _, value in floats], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self.updates += 1

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[nn.Module]:
        """Give `model` the averaged weights inside the context, and restore its own at the end."""
        weights = {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}
        _fill(model, self.average)
        try:
            yield model
        finally:
            _fill(model, weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates. The tensors are not copied."""
        return {"updates": self.updates, "average": dict(self.average)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`.

        Raises:
            UserError: it belongs to another network.
        """
        average = state["average"]
        if {name: tensor.shape for name, tensor in average.items()} != {
            name: tensor.shape for name, tensor in self.average.items()
        }:
            raise UserError("the checkpoint's moving average belongs to another network than that of this run")
        for name, tensor in average.items():
            self.average[name].copy_(tensor)
        self.updates = int(state["updates"])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def _fill(model: nn.Module, values: dict[str, Tensor]) -> None:
    # In place, because compiled graphs and DDP's buckets refer to the tensors' addresses.
    for name, tensor in _tensors(model).items():
        tensor.copy_(values[name])
