"""Networks for small images: their published sizes and initial weights."""

import numpy as np
import pytest
import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.models.build import build


def test_mnist_cnn_has_the_published_number_of_parameters() -> None:
    network = build(ModelConfig(name="mnist-cnn"), classes=10, channels=1, image_size=28)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [832, 51264, 3212288, 10250]
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_274_634
    limit = (6 / (3136 + 1024)) ** 0.5  # Glorot uniform, the default initialization of Keras
    assert 0.99 * limit < layers[2].weight.abs().max() <= limit
    assert not layers[2].bias.any()


def test_linear_is_a_line_and_softmax_starts_uniform() -> None:
    line = build(ModelConfig(name="linear"), classes=1, channels=1, image_size=1)
    weight, bias = (parameter.item() for parameter in line.parameters())
    x = torch.tensor([[1.0], [2.0], [4.0]])
    np.testing.assert_allclose(line(x).detach(), weight * x + bias, rtol=1e-6)
    network = build(ModelConfig(name="softmax"), classes=10, channels=1, image_size=28)
    assert torch.equal(network(torch.rand(3, 1, 28, 28)), torch.zeros(3, 10))


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["digits-cnn", "mnist-cnn", "mnist-fast", "linear", "softmax"])
def test_networks_have_a_logit_for_each_class_at_other_sizes(name: str, channels: int, size: int) -> None:
    network = build(ModelConfig(name=name), classes=7, channels=channels, image_size=size)
    assert network(torch.rand(2, channels, size, size)).shape == (2, 7)


def test_mnist_fast_has_two_convolutions_without_padding_and_pools() -> None:
    network = build(ModelConfig(name="mnist-fast"), classes=10, channels=1, image_size=28)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [624, 28848, (48 * 4**2 + 1) * 128, 1290]
