"""Color networks on gray images."""

import pytest
import torch
from torch import nn

from distdl.models.gray import first_convolution, fold_to_gray, make_gray


def test_the_folded_convolution_has_the_same_response() -> None:
    weight, pixel = torch.randn(4, 3, 1, 1), torch.randn(1, 1, 1, 1)
    folded = nn.functional.conv2d(pixel, fold_to_gray(weight))
    torch.testing.assert_close(folded, nn.functional.conv2d(pixel.expand(-1, 3, -1, -1), weight))


def test_only_the_first_convolution_is_folded() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    assert first_convolution(network) == "1"
    make_gray(network)
    assert network(torch.randn(1, 1, 8, 8)).shape == (1, 5, 4, 4)
    assert first_convolution(nn.Linear(2, 2)) is None
    with pytest.raises(ValueError, match="no convolution"):
        make_gray(nn.Linear(2, 2))
