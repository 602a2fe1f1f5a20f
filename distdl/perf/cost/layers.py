"""Table of a network's layers with their FLOPs and traffic, the input of the performance models.

`profiling.counting.count` creates it from a torch module.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One call of a layer, for the whole batch. 1 multiply-add = 2 FLOPs."""

    name: str
    """Qualified module name, e.g. "features.0"; an operator outside of any module has the operator's name."""
    kind: str
    """conv, dense, attention, recurrent, embedding, norm, activation, pool, elementwise, or other."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int = 0
    """Number of parameters that this call adds: a weight shared between layers counts at its first use only."""
    forward_flops: int = 0
    input_grad_flops: int = 0
    """FLOPs of the gradient with respect to the input; 0 if no earlier layer needs it, as for the first layer."""
    weight_grad_flops: int = 0
    """FLOPs of the gradient with respect to the weights."""
    read_bytes: int = 0
    """Bytes read in the forward pass: inputs and weights once, at `dtype_bytes` per element."""
    write_bytes: int = 0
    """Bytes written in the forward pass: outputs once."""
    geometry: dict[str, Any] = field(default_factory=dict)
    """`op`, the operator's name, and the dimensions of this kind: bias; kernel, stride, padding, dilation,
    groups, in_channels, out_channels; in_features, out_features; heads, sequence, causal; window; note (what is not
    counted)."""

    @property
    def training_flops(self) -> int:
        """FLOPs of the forward pass and both gradients."""
        return self.forward_flops + self.input_grad_flops + self.weight_grad_flops

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the forward pass, FLOPs per byte; 0 for a layer without traffic."""
        traffic = self.read_bytes + self.write_bytes
        return self.forward_flops / traffic if traffic else 0.0


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network with a given input shape and batch size: its layers in execution order."""

    model: str
    input: tuple[int, ...]
    """Shape of one sample, [C, H, W] for an image."""
    batch: int
    layers: tuple[Layer, ...]
    dtype_bytes: int = 4
    """Bytes per floating-point element."""
    warnings: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def forward_flops(self) -> int:
        """FLOPs of the forward pass of the batch."""
        return sum(layer.forward_flops for layer in self.layers)

    @property
    def training_flops(self) -> int:
        """FLOPs of the forward and backward pass of the batch."""
        return sum(layer.training_flops for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `distdl flops --json` prints."""
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
