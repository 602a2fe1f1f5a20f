"""Augmentations of other packages, listed in `data.augment.extra` by name or as package.module:callable.

The callable is a factory: its keyword parameters are settings (`Config.options`, under the name in the list), and it
returns the augmentation, a function of images and of uniform random numbers:

    class Shade:
        numbers = 2  # random numbers per image; 1 without this attribute

        def __init__(self, *, strength: float = 0.5) -> None:
            self.strength = strength

        def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            selected = numbers[:, 1] < 0.5
            factor = 1 - self.strength * numbers[:, 0] * selected
            return images * factor.view(-1, 1, 1, 1)

    distdl train --data.augment.extra my_package:Shade --options my_package:Shade.strength=0.3

The numbers of a sample are the same for any rank, world size and loader, and after a resume. This does not hold for an
augmentation that uses its own random generator. These augmentations are applied after rotation and color jitter, and
before mixup and CutMix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from distdl.core import factories
from distdl.core.config import Config
from distdl.core.contracts import described
from distdl.core.counter_rng import named_stream, uniform
from distdl.core.errors import UserError
from distdl.core.factories import Factory

BELOW_ONE = np.float32(1 - 2**-24)
"""Largest float32 below 1."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An augmentation of another package."""

    factory: Factory
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Function of images [b, C, H, W] float32 in 0 to 1 and numbers [b, n]; it returns images of the same shape."""
    numbers: int
    """Random numbers per image."""

    @property
    def key(self) -> str:
        """Key of its random numbers among the parameters of a batch."""
        return f"extra {self.factory.name}"

    def draw(self, seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
        """Draw uniform random numbers [n, numbers] float32 in [0, 1) for samples `indices` [n] of an epoch."""
        values = uniform(seed, epoch, indices, named_stream(self.factory.name), self.numbers)
        return np.minimum(values.astype(np.float32), BELOW_ONE)

    def __call__(self, images: torch.Tensor, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with self.factory.calling():
            changed = self.function(images, params[self.key])
        if not isinstance(changed, torch.Tensor) or (changed.shape, changed.dtype) != (images.shape, images.dtype):
            raise self.factory.fault(
                f"returned {described(changed)}; expected images of the same shape and type, {list(images.shape)} and "
                f"{images.dtype}"
            )
        return changed


def make(config: Config) -> tuple[Extra, ...]:
    """Build the augmentations of `data.augment.extra`, in its order.

    Raises:
        UserError: an augmentation cannot be imported, is built in, or its settings are wrong.
    """
    extras = []
    for name in config.data.augment.extra:
        factory = factories.get("augmentations", name)
        if field := factory.row.traits.get("field"):
            raise UserError(f"data.augment.extra: {name} is built in, set {field} instead")
        function = factory.make(options=config.options.get(name))
        numbers = getattr(function, "numbers", 1)
        if type(numbers) is not int or numbers < 0:
            raise factory.fault(f"has numbers = {described(numbers)}; expected the number of its random numbers")
        extras.append(Extra(factory=factory, function=function, numbers=numbers))
    return tuple(extras)
