"""Augmentations that a user could write."""

from collections.abc import Callable

import torch


class Shade:
    """Darken half of the images."""

    numbers = 2

    def __init__(self, *, strength: float = 0.5) -> None:
        self.strength = strength

    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        factor = 1 - self.strength * numbers[:, 0] * (numbers[:, 1] < 0.5)
        return images * factor.view(-1, 1, 1, 1)


def invert(*, below: float = 0.5) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Invert a share of the images."""

    def inverted(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return torch.where((numbers[:, 0] < below).view(-1, 1, 1, 1), 1 - images, images)

    return inverted


def halve() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return an augmentation that halves the height, which is an error."""
    return lambda images, numbers: images[:, :, ::2]
