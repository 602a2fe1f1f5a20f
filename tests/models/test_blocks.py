"""Division of a network into blocks of features and classifier."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as builder
from distdl.models.blocks import head, split

# {network: (number of feature blocks, the first and the last of them, classifier blocks)}
BLOCKS = {
    "alexnet": (5, "features.0", "features.10", ["classifier.1", "classifier.4", "classifier.6"]),
    "vgg16": (13, "features.0", "features.28", ["classifier.0", "classifier.3", "classifier.6"]),
    "vgg16_bn": (13, "features.0", "features.40", ["classifier.0", "classifier.3", "classifier.6"]),
    "resnet50": (5, "conv1", "layer4", ["fc"]),
    "densenet121": (8, "features.conv0", "features.denseblock4", ["classifier"]),
    "mobilenet_v2": (19, "features.0", "features.18", ["classifier.1"]),
    "mobilenet_v3_small": (13, "features.0", "features.12", ["classifier.0", "classifier.3"]),
    "googlenet": (12, "conv1", "inception5b", ["fc"]),
    "squeezenet1_0": (9, "features.0", "features.12", ["classifier.1"]),
    "regnet_y_400mf": (5, "stem", "trunk_output.block4", ["fc"]),
    "swin_t": (8, "features.0", "features.7", ["head"]),
    "vit_b_16": (13, "conv_proj", "encoder.layers.encoder_layer_11", ["heads.head"]),
    "resnet20": (4, "conv1", "layer3", ["linear"]),
    "darknet-tiny": (15, "0", "46", ["49"]),
    "mnist-cnn": (2, "features.0", "features.3", ["classifier.0", "classifier.3"]),
}


def build(name: str) -> nn.Module:
    size = {"mnist-cnn": 28, "digits-cnn": 8}.get(name, 224)
    config = ModelConfig(name=name)
    return builder.build(config, classes=10, channels=3, image_size=size, meta=True).to("meta")


@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_of_known_networks(name: str) -> None:
    number, first, last, classifier = BLOCKS[name]
    blocks = split(build(name))
    assert len(blocks.features) == number
    assert (next(iter(blocks.features)), list(blocks.features)[-1]) == (first, last)
    assert list(blocks.classifier) == classifier


class Scaled(nn.Sequential):
    """Has a parameter after the layer that outputs the classes."""

    def __init__(self) -> None:
        scale = nn.ParameterList([torch.ones(1)])
        super().__init__(OrderedDict(conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(4, 10), scale=scale))


def test_a_parameter_after_the_classifier_is_in_a_block_too() -> None:
    blocks = split(Scaled())
    assert blocks.features == {"conv": ["conv.weight", "conv.bias"], "scale": ["scale.0"]}
    assert blocks.classifier == {"fc": ["fc.weight", "fc.bias"]}


def test_a_normalization_belongs_to_the_preceding_block() -> None:
    assert split(build("resnet50")).features["conv1"] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert {"class_token", "encoder.pos_embedding"} < set(split(build("vit_b_16")).features["conv_proj"])


def test_parameters_of_the_root_module_are_a_block() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(nn.Linear(1, 1).weight.detach())
            self.fc = nn.Linear(4, 2)

    blocks = split(Scaled())
    assert (blocks.features, blocks.classifier) == ({"parameters": ["scale"]}, {"fc": ["fc.weight", "fc.bias"]})


def test_a_network_without_layers_has_no_head() -> None:
    with pytest.raises(UserError, match="no linear layer or convolution"):
        head(nn.Sequential(nn.ReLU()))
