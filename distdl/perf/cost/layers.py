"""A network as the performance models read it: a table of layers with their work and their traffic.

`profiling.counting.count` makes one from a torch module.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One use of one layer, for a whole batch. 1 multiply-add = 2 FLOPs."""

    name: str
    """Qualified module name, e.g. "features.0"; a part that no module owns is named after its operator."""
    kind: str
    """conv, dense, attention, recurrent, embedding, norm, activation, pool, elementwise, or other."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int = 0
    """Parameters that this use adds: a weight shared between layers counts at its first use only."""
    forward_flops: int = 0
    input_grad_flops: int = 0
    """0 if no earlier layer needs a gradient, as for a network's first layer."""
    weight_grad_flops: int = 0
    read_bytes: int = 0
    """Forward: inputs and weights read once, at `dtype_bytes` per element."""
    write_bytes: int = 0
    """Forward: outputs written once."""
    geometry: dict[str, Any] = field(default_factory=dict)
    """`op`, the operator's name, and the shape of this kind: bias; kernel, stride, padding, dilation,
    groups, in_channels, out_channels; in_features, out_features; heads, sequence, causal; window; note (what the count
    leaves out)."""

    @property
    def training_flops(self) -> int:
        return self.forward_flops + self.input_grad_flops + self.weight_grad_flops

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the forward pass, FLOPs per byte; 0 for a layer without traffic."""
        traffic = self.read_bytes + self.write_bytes
        return self.forward_flops / traffic if traffic else 0.0


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network at a given input: its layers in the order in which they run."""

    model: str
    input: tuple[int, ...]
    """Shape of one sample, [C, H, W] for an image."""
    batch: int
    layers: tuple[Layer, ...]
    dtype_bytes: int = 4
    warnings: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def forward_flops(self) -> int:
        return sum(layer.forward_flops for layer in self.layers)

    @property
    def training_flops(self) -> int:
        return sum(layer.training_flops for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `distdl flops --json` prints."""
        totals = {name: getattr(self, name) for name in ("parameters", "forward_flops", "training_flops")}
        layers = [
            asdict(layer) | {"training_flops": layer.training_flops, "intensity": layer.intensity}
            for layer in self.layers
        ]
        return {
            "model": self.model,
            "input": list(self.input),
            "batch": self.batch,
            **totals,
            "layers": layers,
            "warnings": list(self.warnings),
        }
