"""Networks as they were published, for comparison with published figures; torchvision's of the same name differ.

All map ImageNet images [b, 3, 224, 224] (AlexNet and NiN also 227) to logits [b, 1000].
"""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import resnet

from distdl.perf import hardware
from distdl.perf.cost.calibration import PASSES, Coefficient, Observation
from distdl.perf.cost.layers import Network
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless


def alexnet_caffe() -> nn.Module:
    """Build AlexNet (Krizhevsky et al. 2012) as Caffe's bvlc_alexnet: three convolutions with two groups, and LRN."""
    return nn.Sequential(
        *_conv(3, 96, 11, stride=4), nn.LocalResponseNorm(5), _pool(),
        *_conv(96, 256, 5, padding=2, groups=2), nn.LocalResponseNorm(5), _pool(),
        *_conv(256, 384, 3, padding=1),
        *_conv(384, 384, 3, padding=1, groups=2),
        *_conv(384, 256, 3, padding=1, groups=2), _pool(),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


def nin() -> nn.Module:
    """Build Network in Network (Lin et al. 2014) for ImageNet: two 1x1 convolutions follow every convolution."""
    return nn.Sequential(
        *_conv(3, 96, 11, stride=4), *_conv(96, 96, 1), *_conv(96, 96, 1), _pool(),
        *_conv(96, 256, 5, padding=2), *_conv(256, 256, 1), *_conv(256, 256, 1), _pool(),
        *_conv(256, 384, 3, padding=1), *_conv(384, 384, 1), *_conv(384, 384, 1), _pool(), nn.Dropout(),
        *_conv(384, 1024, 3, padding=1), *_conv(1024, 1024, 1), *_conv(1024, 1000, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def googlenet_caffe() -> nn.Module:
    """Build Inception-v1 (Szegedy et al. 2015) as Caffe's bvlc_googlenet: biases, LRN, no batch norm, 5x5 branches."""
    return nn.Sequential(
        *_conv(3, 64, 7, stride=2, padding=3), _pool(), nn.LocalResponseNorm(5),
        *_conv(64, 64, 1), *_conv(64, 192, 3, padding=1), nn.LocalResponseNorm(5), _pool(),
        Inception(192, 64, (96, 128), (16, 32), 32),
        Inception(256, 128, (128, 192), (32, 96), 64), _pool(),
        Inception(480, 192, (96, 208), (16, 48), 64),
        Inception(512, 160, (112, 224), (24, 64), 64),
        Inception(512, 128, (128, 256), (24, 64), 64),
        Inception(512, 112, (144, 288), (32, 64), 64),
        Inception(528, 256, (160, 320), (32, 128), 128), _pool(),
        Inception(832, 256, (160, 320), (32, 128), 128),
        Inception(832, 384, (192, 384), (48, 128), 128),
        nn.AvgPool2d(7), nn.Dropout(0.4), nn.Flatten(), nn.Linear(1024, 1000),
    )  # fmt: skip


class Inception(nn.Module):
    """Four branches of the same input, whose outputs are concatenated. The widths are in Table 1 of the paper."""

    def __init__(self, width: int, pointwise: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*_conv(width, pointwise, 1)),
                nn.Sequential(*_conv(width, three[0], 1), *_conv(*three, 3, padding=1)),
                nn.Sequential(*_conv(width, five[0], 1), *_conv(*five, 5, padding=2)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_conv(width, pooled, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def resnet_caffe(depth: int = 50) -> nn.Module:
    """Build a ResNet (He et al. 2015) as published: a bottleneck's first 1x1 convolution has the stride."""
    network = resnet.__dict__[f"resnet{depth}"]()
    for block in network.modules():
        if isinstance(block, resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return network


def _conv(
    width: int, out: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(width, out, kernel, stride, padding, groups=groups), nn.ReLU(inplace=True)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)  # Caffe rounds up


def nin_of_paleo() -> nn.Module:
    """Build Network in Network as PALEO counts it: output sizes of pools are rounded down."""
    network = nin()
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    return network


def alexnet_of_paleo() -> nn.Module:
    """Build AlexNet (Krizhevsky 2014, "One weird trick") as PALEO counts it.

    The first convolution has no padding, and the dense layers have an input of 5 x 5.
    """

    def conv(width: int, out: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
        return [nn.Conv2d(width, out, kernel, stride, padding), nn.ReLU()]

    return nn.Sequential(
        *conv(3, 64, 11, stride=4), nn.MaxPool2d(3, 2), *conv(64, 192, 5, padding=2), nn.MaxPool2d(3, 2),
        *conv(192, 384, 3, padding=1), *conv(384, 256, 3, padding=1), *conv(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(256 * 5 * 5, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000),
    )  # fmt: skip


BATCH = 16
CNN_BENCHMARKS: dict[str, Callable[[], nn.Module]] = {
    "AlexNet": alexnet_caffe,
    "Inception-V1": googlenet_caffe,
    "VGG-16": torchvision.models.vgg16,
    "VGG-19": torchvision.models.vgg19,
    **{f"ResNet-{depth}": partial(resnet_caffe, depth) for depth in (18, 34, 50, 101, 152)},
}
"""github.com/jcjohnson/cnn-benchmarks: Torch and cuDNN 5.1, 224 x 224 pixels."""
FAMILY = {name: name.partition("-")[0] for name in CNN_BENCHMARKS}
DEVICES = {"Pascal Titan X": "titan-x-pascal", "Maxwell Titan X": "titan-x-maxwell"}

BOOST = 0.8
"""Lower bound of compute: the data sheets are for the base clock, and these GPUs ran up to 25 % faster."""
F4 = 4 / 2.25
"""Saving of F(4x4, 3x3) over F(2x2, 3x3): a 4x4 tile of a 3x3 convolution needs 36 multiplications instead of 144."""
PRODUCTS = frozenset({"conv", "depthwise", "dense"})
CONVOLUTIONS = frozenset({"conv", "depthwise", "winograd"})
FORM = (
    Coefficient(term="compute", kinds=PRODUCTS, least=BOOST),
    Coefficient(term="compute", kinds=frozenset({"winograd"}), least=BOOST / F4),
    # Without dense layers: at a small batch size, their time is that of reading the weights, which "traffic" covers.
    Coefficient(term="edge", kinds=CONVOLUTIONS),
    Coefficient(term="traffic", least=1.0),
    Coefficient(term="layer"),
)
"""Five coefficients for both devices, both passes and all networks."""


def cnn_benchmarks(file: Path) -> tuple[list[Observation], list[str]]:
    """Read the times in cnn-benchmarks.csv. Returns observations, two passes per row, and the network of each."""
    counted = {name: _counted(name, make) for name, make in CNN_BENCHMARKS.items()}
    devices = {name: hardware.device(sheet) for name, sheet in DEVICES.items()}
    observations, names = [], []
    with file.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for when in PASSES:
                observations.append(
                    Observation(
                        layers=counted[row["network"]].layers,
                        device=devices[row["device"]],
                        when=when,
                        seconds=float(row[f"{when}_ms"]) / 1e3,
                    )
                )
                names.append(row["network"])
    return observations, names


def _counted(name: str, make: Callable[[], nn.Module]) -> Network:
    with weightless():
        network = make()
    return count(network, batch=BATCH, name=name)
