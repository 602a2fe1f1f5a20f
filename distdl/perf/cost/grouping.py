"""Sums over a layer table: by kind, or by module with its parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distdl.perf.cost.layers import Layer, Network

DEPTH = 2
"""Number of levels of modules with sums; in torchvision's networks these are stages and their blocks."""


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Sum over some layers of a network. The fields are those of `Layer`."""

    name: str
    layers: int
    parameters: int
    forward_flops: int
    forward_share: float
    """Share of the network's forward FLOPs, 0 to 1."""
    input_grad_flops: int
    weight_grad_flops: int
    training_flops: int
    read_bytes: int
    write_bytes: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the forward pass, FLOPs per byte; 0 without traffic."""
        traffic = self.read_bytes + self.write_bytes
        return self.forward_flops / traffic if traffic else 0.0


def by_kind(network: Network) -> list[LayerGroup]:
    """Return one group per kind, sorted by forward FLOPs, largest first."""
    kinds: dict[str, list[Layer]] = {}
    for layer in network.layers:
        kinds.setdefault(layer.kind, []).append(layer)
    groups = [_sum(name, layers, network) for name, layers in kinds.items()]
    return sorted(groups, key=lambda group: (-group.forward_flops, -group.read_bytes - group.write_bytes))


def by_module(network: Network) -> list[LayerGroup]:
    """Return one group per module down to `DEPTH`, in execution order, each after the module that contains it."""
    modules: dict[str, list[Layer]] = {}
    for layer in network.layers:
        for name in _ancestors(layer.name):
            modules.setdefault(name, []).append(layer)
    first = {name: index for index, name in enumerate(modules)}
    order = sorted(modules, key=lambda name: [first[ancestor] for ancestor in _ancestors(name)])
    return [_sum(name, modules[name], network) for name in order]


def _ancestors(name: str) -> Iterator[str]:
    parts = name.split(".")
    for depth in range(1, min(len(parts), DEPTH) + 1):
        yield ".".join(parts[:depth])


def _sum(name: str, layers: list[Layer], network: Network) -> LayerGroup:
    fields = (
        "parameters", "forward_flops", "input_grad_flops", "weight_grad_flops", "training_flops", "read_bytes",
        "write_bytes",
    )  # fmt: skip
    sums: dict[str, Any] = {field: sum(getattr(layer, field) for layer in layers) for field in fields}
    share = sums["forward_flops"] / network.forward_flops if network.forward_flops else 0.0
    return LayerGroup(name=name, layers=len(layers), forward_share=share, **sums)
