"""The networks whose times others published, as they ran them: to hold a predictor against. Needs torch."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torchvision
from torch import nn

from distdl.perf import hardware
from distdl.perf.cost.calibration import PASSES, Coefficient, Observation
from distdl.perf.cost.layers import Network
from distdl.profiling import published_layers as papers
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless

BATCH = 16
CNN_BENCHMARKS: dict[str, Callable[[], nn.Module]] = {
    "AlexNet": papers.alexnet_caffe,
    "Inception-V1": papers.googlenet_caffe,
    "VGG-16": torchvision.models.vgg16,
    "VGG-19": torchvision.models.vgg19,
    **{f"ResNet-{depth}": partial(papers.resnet_caffe, depth) for depth in (18, 34, 50, 101, 152)},
}
"""github.com/jcjohnson/cnn-benchmarks: Torch and cuDNN 5.1, 224 x 224 pixels."""
FAMILY = {name: name.partition("-")[0] for name in CNN_BENCHMARKS}
DEVICES = {"Pascal Titan X": "titan-x-pascal", "Maxwell Titan X": "titan-x-maxwell"}

BOOST = 0.8
"""These data sheets give the base clock; cards of that time ran up to a quarter faster."""
F4 = 4 / 2.25
"""A 4x4 tile of a 3x3 convolution takes 36 multiplications in place of 144: no kernel needed fewer."""
PRODUCTS = frozenset({"conv", "depthwise", "dense"})
CONVOLUTIONS = frozenset({"conv", "depthwise", "winograd"})
FORM = (
    Coefficient(term="compute", kinds=PRODUCTS, least=BOOST),
    Coefficient(term="compute", kinds=frozenset({"winograd"}), least=BOOST / F4),
    # A dense layer at a small batch is as long as its weights take to read, which traffic has.
    Coefficient(term="edge", kinds=CONVOLUTIONS),
    Coefficient(term="traffic", least=1.0),
    Coefficient(term="layer"),
)
"""Five coefficients for both devices, both passes and all networks."""


def cnn_benchmarks(file: Path) -> tuple[list[Observation], list[str]]:
    """The times in cnn-benchmarks.csv as observations, and each one's network: two passes of each row."""
    counted = {name: _counted(name, make) for name, make in CNN_BENCHMARKS.items()}
    devices = {name: hardware.device(own) for name, own in DEVICES.items()}
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


def nin_of_paleo() -> nn.Module:
    """Network in Network as PALEO counts it: pools round down."""
    network = papers.nin()
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    return network


def alexnet_of_paleo() -> nn.Module:
    """AlexNet of Krizhevsky 2014 ("One weird trick") as PALEO counts it: without padding in front, 5 x 5 at the end."""

    def conv(width: int, out: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
        return [nn.Conv2d(width, out, kernel, stride, padding), nn.ReLU()]

    return nn.Sequential(
        *conv(3, 64, 11, stride=4), nn.MaxPool2d(3, 2), *conv(64, 192, 5, padding=2), nn.MaxPool2d(3, 2),
        *conv(192, 384, 3, padding=1), *conv(384, 256, 3, padding=1), *conv(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(256 * 5 * 5, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000),
    )  # fmt: skip
