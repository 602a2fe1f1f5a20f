"""Networks that `distdl calibrate` measures: a range of layers, combined as in current architectures.

Layers are measured inside a network that trains, because an isolated layer would run with mapped memory and warm
caches. Widths and sizes are between those of published networks, but differ from all of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Make = Callable[[], nn.Module]


class Sum(nn.Module):
    """The sum of two branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (branch(x) for branch in self.branches)
        return first + second


class Join(nn.Module):
    """Several branches of the same input, concatenated along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Gate(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): channels scaled by a function of their averages."""

    def __init__(self, width: int, gate: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // 4, 1), nn.ReLU(), nn.Conv2d(width // 4, width, 1), gate
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)


class Shuffled(nn.Module):
    """A body for half of the channels, then a channel shuffle, as in ShuffleNet v2 (Ma et al. 2018)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return torch.stack([first, self.body(second)], dim=2).flatten(1, 2)


class Encoder(nn.Module):
    """An encoder layer of a vision transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.project(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """Patch embedding: converts an image to a sequence of patches."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, width, size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(x).flatten(2).transpose(1, 2).contiguous()


def conv(
    width: int, out: int, kernel: int = 3, act: Make = nn.ReLU, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Build convolution, batch norm and activation, with padding that preserves the size for stride 1."""
    layer = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), act())


def residual() -> nn.Module:
    """Build 3x3 convolutions with shortcuts, as in ResNet-18."""
    layers: list[nn.Module] = [*conv(3, 56, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    width = 56
    for out, stride in ((56, 1), (112, 2), (112, 1), (208, 2), (448, 2)):
        body = nn.Sequential(
            *conv(width, out, stride=stride), nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        )
        same = stride == 1 and width == out
        short = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )
        layers += [Sum(body, short), nn.ReLU(inplace=True)]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 500))


def bottleneck(groups: int = 1, in_group: int = 0) -> nn.Module:
    """Build bottleneck blocks, as in ResNet-50 and ResNeXt.

    Args:
        groups: number of groups of the 3x3 convolutions.
        in_group: channels per group, instead of `groups`; 0 to use `groups`.
    """
    layers: list[nn.Module] = [*conv(3, 48, 3, stride=2), *conv(48, 48, 3, stride=2)]
    width = 48
    for inner, out, stride in ((48, 192, 1), (96, 352, 2), (160, 640, 2), (320, 1280, 2)):
        body = nn.Sequential(
            *conv(width, inner, 1),
            *conv(inner, inner, stride=stride, groups=inner // in_group if in_group else groups),
            nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        short = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        layers += [Sum(body, short), nn.ReLU(inplace=True)]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def inverted(act: Make = nn.SiLU, gate: Make | None = nn.Sigmoid) -> nn.Module:
    """Build inverted residuals with squeeze-and-excitation, as in EfficientNet and MobileNet v3."""
    layers: list[nn.Module] = [*conv(3, 20, 3, act, stride=2)]
    width = 20
    for out, kernel, stride in ((20, 3, 1), (28, 3, 2), (44, 5, 2), (88, 3, 2), (128, 5, 1), (200, 5, 2)):
        inner = 6 * width
        gated = [Gate(inner, gate())] if gate else []
        body = nn.Sequential(
            *conv(width, inner, 1, act), *conv(inner, inner, kernel, act, stride=stride, groups=inner), *gated,
            nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        layers += [Sum(body, nn.Identity()) if stride == 1 and width == out else body]
        width = out
    head = conv(width, 1152, 1, act)
    return nn.Sequential(*layers, head, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1152, 1000))


def shuffled() -> nn.Module:
    """Build small layers with depthwise convolutions on half of the channels, as in ShuffleNet v2."""
    layers: list[nn.Module] = [*conv(3, 32, stride=2), nn.MaxPool2d(3, 2, 1)]
    width = 32
    for out, blocks in ((88, 3), (168, 5), (336, 3)):
        layers += [*conv(width, width, stride=2, groups=width), *conv(width, out, 1)]
        half = out // 2
        layers += [
            Shuffled(nn.Sequential(*conv(half, half, 1), *conv(half, half, groups=half), *conv(half, half, 1)))
            for _ in range(blocks)
        ]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def plain() -> nn.Module:
    """Build convolutions with biases and large kernels, pools and dense layers, as in AlexNet."""

    def biased(width: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(width, out, kernel, stride, kernel // 2), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *biased(3, 72, 11, stride=4), nn.MaxPool2d(3, 2), *biased(72, 160, 5), nn.LocalResponseNorm(5),
        nn.MaxPool2d(3, 2), *biased(160, 288, 3), *biased(288, 288, 3), nn.AdaptiveAvgPool2d(6), nn.Flatten(),
        nn.Linear(288 * 36, 3072), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(3072, 1536), nn.ReLU(inplace=True),
        nn.Linear(1536, 1000),
    )  # fmt: skip


def stacked(first: int = 40) -> nn.Module:
    """Build 3x3 convolutions on large images without normalization, as in VGG; `first` is the width of the first."""
    layers: list[nn.Module] = []
    width = 3
    for times, pool in ((1, False), (1, True), (2.4, True), (5.6, False), (5.6, True), (9.6, True), (9.6, False)):
        out = round(first * times / 8) * 8
        layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if pool else []
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def joined() -> nn.Module:
    """Build layers whose output is concatenated with their input, as in DenseNet."""

    def grow(width: int) -> nn.Module:
        body = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), *conv(width, 112, 1),
            nn.Conv2d(112, 28, 3, padding=1, bias=False),
        )  # fmt: skip
        return Join(nn.Identity(), body)

    layers: list[nn.Module] = [*conv(3, 56, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    width = 56
    for half in (80, 96, None):
        for _ in range(3):
            layers.append(grow(width))
            width += 28
        if half:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, half, 1, bias=False), nn.AvgPool2d(2)]
            width = half
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def branched() -> nn.Module:
    """Build parallel branches with different kernels, as in GoogLeNet."""

    def block(width: int, pointwise: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> nn.Module:
        return Join(
            conv(width, pointwise, 1), nn.Sequential(conv(width, three[0], 1), conv(*three)),
            nn.Sequential(conv(width, five[0], 1), conv(*five, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(width, pooled, 1)),
        )  # fmt: skip

    return nn.Sequential(
        *conv(3, 40, 3, stride=2), *conv(40, 72),
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(3, 2, ceil_mode=True),
        block(72, 56, (72, 112), (20, 40), 24), block(232, 96, (80, 176), (24, 56), 48), nn.AvgPool2d(2),
        block(376, 144, (120, 240), (28, 72), 80), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(536, 1000),
    )  # fmt: skip


def transformer(width: int = 448, heads: int = 7, patch: int = 16) -> nn.Module:
    """Build a vision transformer with three encoder layers."""
    return nn.Sequential(
        Patches(width, patch), *(Encoder(width, heads) for _ in range(3)), nn.LayerNorm(width), nn.Flatten(),
        nn.LazyLinear(100),
    )  # fmt: skip


PROBES: dict[str, tuple[Make, int]] = {
    "residual": (residual, 224),
    "bottleneck": (bottleneck, 224),
    "grouped": (lambda: bottleneck(groups=16), 192),
    "grouped-16": (lambda: bottleneck(in_group=16), 224),
    "shuffled": (shuffled, 224),
    "inverted": (inverted, 224),
    "inverted-hard": (lambda: inverted(nn.Hardswish, nn.Hardsigmoid), 192),
    "inverted-6": (lambda: inverted(nn.ReLU6, None), 224),
    "plain": (plain, 224),
    "stacked": (stacked, 192),
    "stacked-56": (lambda: stacked(56), 176),
    "joined": (joined, 224),
    "branched": (branched, 192),
    "transformer": (transformer, 224),
    "transformer-32": (lambda: transformer(704, 11, 32), 224),
}
"""(builder, image size in pixels)"""
