"""Work of one operator: its products, and the factors that may need a gradient."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class ProductFactor:
    """One factor of a product. Its gradient, the other factor times the output's gradient, costs the same FLOPs."""

    tensors: tuple[Tensor, ...]
    """The tensors from which it is computed: it needs a gradient if one of them does."""
    weight: bool | None = None
    """Whether its gradient is a weight gradient or an input gradient; None if this depends on whether its tensor is a
    parameter."""


@dataclass(frozen=True)
class Product:
    """A bilinear operation, such as a matrix product or a convolution."""

    flops: int
    """FLOPs of the forward pass, 2 per multiply-add."""
    factors: tuple[ProductFactor, ...]


@dataclass(frozen=True)
class OperatorWork:
    """Kind, products and traffic of one operator."""

    kind: str
    products: tuple[Product, ...] = ()
    geometry: dict[str, Any] = field(default_factory=dict)
    input: Tensor | None = None
    """The input that determines the layer's input shape; None for the operator's first tensor."""
    read: int | None = None
    """Number of floating-point elements that are read, if only a part is (embedding); None if all are read."""


def product(flops: int, *factors: Tensor | ProductFactor) -> Product:
    """Build a product of factors; tensors become factors."""
    return Product(flops, tuple(f if isinstance(f, ProductFactor) else ProductFactor((f,)) for f in factors))
