"""Properties shared by a family of networks: its layout, and adapters for weights with other layouts."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class StateDict(OrderedDict[str, Tensor]):
    """A state_dict: tensors by name."""

    _metadata: Any = None
    """Versions of the modules by name, as torch stores them in a state_dict to convert older layouts."""

    def replaced(self, tensors: Iterable[tuple[str, Tensor]]) -> "StateDict":
        """Return a state with other tensors and the same versions."""
        state = StateDict(tensors)
        state._metadata = self._metadata
        return state


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Conversion of weights to the layout of a network."""

    name: str
    applies: Callable[[StateDict, nn.Module], bool]
    """Whether the state has the layout that this adapter converts."""
    adapt: Callable[[StateDict, nn.Module], StateDict]
    """Function that returns the converted state."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Properties of a network for freezing and loading weights. They are in the network's attribute `family`."""

    containers: tuple[str, ...] = ("features", "layers", "blocks")
    """Names of modules that contain blocks, and are not blocks themselves."""
    adapters: tuple[Adapter, ...] = ()
    """Conversions of weights, applied in this order."""


def family_of(network: nn.Module) -> Family:
    """Return the network's attribute `family`, or the default."""
    family = getattr(network, "family", None)
    return family if isinstance(family, Family) else Family()
