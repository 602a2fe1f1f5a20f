"""Features and classifier, block by block, and what trains of them."""

import pytest
import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as zoo
from distdl.models import freezing as parts
from distdl.profiling.counting.meta import weightless

# What the blocks are: {network: (feature blocks, first and last of them, classifier blocks)}.
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


def build(name: str, **options: object) -> nn.Module:
    size = {"mnist-cnn": 28, "digits-cnn": 8}.get(name, 224)
    with weightless():
        return zoo.build(ModelConfig(name=name, **options), classes=10, channels=3, image_size=size).to("meta")


def trained(network: nn.Module) -> set[str]:
    """Modules of which something trains, to the second level."""
    return {".".join(name.split(".")[:2]) for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str) -> None:
    number, first, last, classifier = BLOCKS[name]
    found = parts.split(build(name))
    assert len(found.features) == number
    assert (next(iter(found.features)), list(found.features)[-1]) == (first, last)
    assert list(found.classifier) == classifier


def test_a_normalisation_belongs_to_the_block_before_it() -> None:
    assert parts.split(build("resnet50")).features["conv1"] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert {"class_token", "encoder.pos_embedding"} < set(parts.split(build("vit_b_16")).features["conv_proj"])


SIX = (True,) * 6


@pytest.mark.parametrize(
    ("features", "expected"),
    [  # the three attempts of the document that the masks come from: from scratch, frozen, all but the first
        ((True, True), {"features.0", "features.3", "features.6", "features.8", "features.10"}),
        ((False, False), set()),
        ((False, True, True), {"features.3", "features.6", "features.8", "features.10"}),
        ((True, False), {"features.0"}),
    ],
)
def test_masks_go_block_by_block_and_the_last_value_for_the_rest(features: tuple, expected: set) -> None:
    network = build("alexnet", trainable_features=features, trainable_classifier=SIX)
    assert trained(network) == expected | {"classifier.1", "classifier.4", "classifier.6"}


def test_mask_of_the_classifier() -> None:
    network = build("alexnet", trainable_features=(False,), trainable_classifier=(False, True))
    assert trained(network) == {"classifier.4", "classifier.6"}


def test_patterns_freeze_and_choose() -> None:
    assert trained(build("resnet50", freeze=("conv1.*", "bn1.*", "layer[123].*"))) == {
        "layer4.0", "layer4.1", "layer4.2", "fc.weight", "fc.bias",
    }  # fmt: skip
    assert trained(build("resnet50", train_only=("fc.*",))) == {"fc.weight", "fc.bias"}
    network = build("resnet50", train_only=("fc.*", "layer4.*"), freeze=("*.bn?.*",), trainable_features=(False, True))
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {"fc.weight", "layer4.0.conv1.weight"} < names
    assert not any(".bn" in name or name.startswith("layer3") for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ("layer5.*",)}, r'model.freeze: no parameter matches "layer5.\*"; did you mean "layer\d.\*"'),
        ({"freeze": ("layer1",)}, r'"layer1"; did you mean "layer1.\*"'),
        ({"train_only": ("fc.wieght",)}, r'model.train_only.*did you mean "fc.weight"'),
        ({"freeze": ("*",)}, "leave something to train"),
        ({"trainable_features": (False,), "trainable_classifier": (False,)}, "leave something to train"),
        ({"trainable_features": (True, True, True, True, True, False)}, "6 values, but there are 5 blocks: conv1, lay"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("resnet50", **options)


def test_a_mask_of_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.trainable_features has no effect"):
        zoo.build(ModelConfig(name="softmax", trainable_features=(False,)), classes=10, channels=1, image_size=8)


def test_frozen_batchnorm_stays_frozen_through_training() -> None:
    torch.manual_seed(0)
    config = ModelConfig(name="resnet20", freeze=("conv1.*", "bn1.*", "layer1.*"))
    network = zoo.build(config, classes=10, channels=3, image_size=32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        network.eval()
        parts.set_train(network)
        network(torch.randn(8, 3, 32, 32)).logsumexp(1).sum().backward()
        optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("conv1.", "bn1.", "layer1.")) for name in changed)
    assert {"layer2.0.bn1.running_mean", "layer2.0.bn1.weight", "layer2.0.bn1.num_batches_tracked"} < changed
    assert network.training
    assert network.layer2.training
