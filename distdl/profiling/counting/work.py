"""OperatorWork of one operator: its products, and the factors that may need a gradient."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """One factor of a product. Its gradient costs as many FLOPs as the product: the other factor times the output's."""

    tensors: tuple[Tensor, ...]
    """The tensors that it is computed from: it needs a gradient if one of these does."""
    weight: bool | None = None
    """True: its gradient is a weight gradient; False: an input gradient; None: as its tensor is a parameter or not."""


@dataclass(frozen=True)
class Product:
    """A bilinear operation, such as a matrix product or a convolution."""

    flops: int
    """2 for each multiply-add of the forward pass."""
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class OperatorWork:
    """Kind, products and traffic of one operator."""

    kind: str
    products: tuple[Product, ...] = ()
    geometry: dict[str, Any] = field(default_factory=dict)
    input: Tensor | None = None
    """The input that gives the layer its shape; None: the operator's first tensor."""
    read: int | None = None
    """Elements of a table that are read, if not all of it is (embedding); None: all tensors are read completely."""


def product(flops: int, *factors: Tensor | Factor) -> Product:
    return Product(flops, tuple(f if isinstance(f, Factor) else Factor((f,)) for f in factors))
