"""A family of networks: its layout, and how weights of other layouts are translated for it."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class State(OrderedDict[str, Tensor]):
    """Tensors by name."""

    _metadata: Any = None
    """Versions of the modules by name, as torch stores them in a state_dict: it translates older layouts by them."""

    def replaced(self, tensors: Iterable[tuple[str, Tensor]]) -> "State":
        """Other tensors with the same versions."""
        state = State(tensors)
        state._metadata = self._metadata
        return state


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Translation of weights to the layout of a network."""

    name: str
    applies: Callable[[State, nn.Module], bool]
    adapt: Callable[[State, nn.Module], State]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Knowledge about a network that freezing and loading weights need. A network states it as attribute `family`."""

    containers: tuple[str, ...] = ("features", "layers", "blocks")
    """Names of modules that only hold blocks, and are no block themselves."""
    adapters: tuple[Adapter, ...] = ()
    """Translations of weights files, applied in this order."""


def family_of(network: nn.Module) -> Family:
    """The family that a network states, or the default."""
    stated = getattr(network, "family", None)
    return stated if isinstance(stated, Family) else Family()
