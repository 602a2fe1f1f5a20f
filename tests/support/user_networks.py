"""Networks that a user could write."""

import torch
from torch import Tensor, nn

from distdl.models.family import Adapter, Family


class Tiny(nn.Module):
    """Two stages and a classifier, with settings and a family."""

    family = Family(
        containers=("stages",),
        adapters=(
            Adapter(
                name="names of version 1",
                applies=lambda state, network: "head.weight" in state,
                adapt=lambda state, network: state.replaced(
                    (name.replace("head.", "classifier."), value) for name, value in state.items()
                ),
            ),
        ),
    )

    def __init__(self, *, classes: int, channels: int, image_size: int, width: int = 8, bias: bool = True) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, padding=1)
        )
        self.classifier = nn.Linear(2 * width * image_size**2, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.stages(images).flatten(1))


def thousand(image_size: int) -> nn.Module:
    """A network that ignores the number of classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2, 1000))


def no_layer(classes: int) -> nn.Module:
    """A network without linear layers and convolutions."""
    return nn.Sequential(nn.Flatten(), nn.Bilinear(1, 1, classes))


class Reader(nn.Module):
    """A network that reads values, so that it fails on the meta device."""

    def __init__(self, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels * image_size**2, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1)) * max(images.max().item(), 1.0)


def fails(classes: int) -> nn.Module:
    raise RuntimeError("no such thing")


def number(classes: int) -> int:
    return classes


def pair(classes: int, image_size: int) -> nn.Module:
    """A network that outputs two tensors."""

    class Pair(nn.Linear):
        def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            logits = super().forward(input.flatten(1))
            return logits, torch.zeros_like(logits)

    return Pair(image_size**2, classes)


class Normalized(nn.Sequential):
    """A network with BatchNorm, dropout, both or none."""

    def __init__(
        self, *, classes: int, channels: int, image_size: int, norm: bool = True, dropout: float = 0.3
    ) -> None:
        super().__init__(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(6 * (image_size // 2) ** 2, classes),
        )
