"""Every network by name: it builds with the classes at hand and gives logits of them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as zoo
from distdl.models import freezing as parts
from distdl.profiling.counting.meta import weightless

SIZES = {"digits-cnn": 8, "mnist-cnn": 28, "softmax": 28, "linear": 1, "inception_v3": 299}


# One of each of torchvision's families; the others differ in depth and width, and are slow tests.
FAMILIES = {
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vit_b_32",
    "wide_resnet50_2",
}


def networks() -> list:
    fast = FAMILIES.union(zoo.OWN)
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names()]


def image_size(name: str) -> int:
    return SIZES.get(name, 32 if name in zoo.OWN else 224)


@pytest.mark.parametrize("name", networks())
def test_every_network_takes_its_classes(name: str) -> None:
    """On the meta device: shapes as they are, without the gigabytes. 10 classes, one channel."""
    size = image_size(name)
    with weightless():
        network = zoo.build(ModelConfig(name=name), classes=10, channels=1, image_size=size).to("meta")
    with torch.device("meta"):
        assert network(torch.empty(2, 1, size, size)).shape == (2, 10)
    found = parts.split(network)
    inside = [name for part in (found.features, found.classifier) for names in part.values() for name in names]
    assert sorted(inside) == sorted(name for name, _ in network.named_parameters())
    assert network.get_submodule(parts.head(network)).weight.shape[0] == 10


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet", "resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_reach_every_parameter(name: str, channels: int) -> None:
    network = zoo.build(ModelConfig(name=name), classes=3, channels=channels, image_size=64)
    network.train()(torch.randn(2, channels, 64, 64)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_gray_network_sees_what_the_colour_one_sees() -> None:
    gray = torch.randn(2, 1, 64, 64)
    torch.manual_seed(0)
    colour = zoo.build(ModelConfig(name="resnet18"), classes=4, channels=3, image_size=64).eval()
    torch.manual_seed(0)
    network = zoo.build(ModelConfig(name="resnet18"), classes=4, channels=1, image_size=64).eval()
    torch.testing.assert_close(network(gray), colour(gray.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_mnist_cnn_has_the_parameters_of_the_published_table() -> None:
    network = zoo.build(ModelConfig(name="mnist-cnn"), classes=10, channels=1, image_size=28)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [832, 51264, 3212288, 10250]
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_274_634
    limit = (6 / (3136 + 1024)) ** 0.5  # Glorot's uniform, as Keras initialises
    assert 0.99 * limit < layers[2].weight.abs().max() <= limit
    assert not layers[2].bias.any()


def test_linear_is_a_line_and_softmax_starts_undecided() -> None:
    line = zoo.build(ModelConfig(name="linear"), classes=1, channels=1, image_size=1)
    weight, bias = (parameter.item() for parameter in line.parameters())
    x = torch.tensor([[1.0], [2.0], [4.0]])
    np.testing.assert_allclose(line(x).detach(), weight * x + bias, rtol=1e-6)
    network = zoo.build(ModelConfig(name="softmax"), classes=10, channels=1, image_size=28)
    assert torch.equal(network(torch.rand(3, 1, 28, 28)), torch.zeros(3, 10))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet-50", "resnet50"), ("digit-cnn", "digits-cnn"), ("efficientnet-b0", "efficientnet_b0")],
)
def test_unknown_name_is_told_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f'"{name}" is not known; did you mean "{nearest}"'):
        zoo.build(ModelConfig(name=name), classes=10, channels=3, image_size=224)


@pytest.mark.parametrize(
    ("name", "size", "channels", "what"),
    [
        ("alexnet", 32, 3, "32 x 32"),
        ("inception_v3", 64, 3, "64 x 64"),
        ("vit_b_16", 230, 3, "230 x 230"),
        ("maxvit_t", 100, 3, "100 x 100"),
        ("resnet18", 64, 4, "1 or 3 channels"),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(name: str, size: int, channels: int, what: str) -> None:
    with pytest.raises(UserError, match=what):
        zoo.build(ModelConfig(name=name), classes=10, channels=channels, image_size=size)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t", "vit_b_16"])
def test_small_images_are_no_error_where_the_network_takes_them(name: str) -> None:
    network = zoo.build(ModelConfig(name=name), classes=5, channels=3, image_size=64)
    assert network.training
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_dropout_is_set_or_its_absence_told() -> None:
    network = zoo.build(ModelConfig(name="mnist-cnn", dropout=0.2), classes=10, channels=1, image_size=28)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.2]
    with pytest.raises(UserError, match="resnet20 has no dropout"):
        zoo.build(ModelConfig(name="resnet20", dropout=0.2), classes=10, channels=3, image_size=32)


def test_small_networks_do_not_wait_for_torchvision() -> None:
    code = (
        "import sys; from distdl.core.config import ModelConfig; from distdl.models import build as zoo\n"
        "zoo.build(ModelConfig(name='digits-cnn'), classes=10, channels=1, image_size=8)\n"
        "zoo.build(ModelConfig(name='resnet20'), classes=10, channels=3, image_size=32)\n"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
