"""Masks and patterns that select the trained parameters, and frozen BatchNorm."""

import pytest
import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as builder
from distdl.models.freezing import set_train


def build(name: str, **options: object) -> nn.Module:
    size = {"mnist-cnn": 28, "digits-cnn": 8}.get(name, 224)
    config = ModelConfig(name=name, **options)
    return builder.build(config, classes=10, channels=3, image_size=size, meta=True).to("meta")


def trained(network: nn.Module) -> set[str]:
    """Modules with trained parameters, up to the second level of names."""
    return {".".join(name.split(".")[:2]) for name, parameter in network.named_parameters() if parameter.requires_grad}


SIX = (True,) * 6


@pytest.mark.parametrize(
    ("features", "expected"),
    [  # from scratch, frozen, all but the first, only the first
        ((True, True), {"features.0", "features.3", "features.6", "features.8", "features.10"}),
        ((False, False), set()),
        ((False, True, True), {"features.3", "features.6", "features.8", "features.10"}),
        ((True, False), {"features.0"}),
    ],
)
def test_masks_apply_per_block_and_the_last_value_to_the_rest(features: tuple, expected: set) -> None:
    network = build("alexnet", trainable_features=features, trainable_classifier=SIX)
    assert trained(network) == expected | {"classifier.1", "classifier.4", "classifier.6"}


def test_the_classifier_has_its_own_mask() -> None:
    network = build("alexnet", trainable_features=(False,), trainable_classifier=(False, True))
    assert trained(network) == {"classifier.4", "classifier.6"}


def test_patterns_select_frozen_and_trained_parameters() -> None:
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
        ({"train_only": ("fc.weights",)}, r'model.train_only.*did you mean "fc.weight"'),
        ({"freeze": ("*",)}, "at least one must be trained"),
        ({"trainable_features": (False,), "trainable_classifier": (False,)}, "at least one must be trained"),
        ({"trainable_features": (True, True, True, True, True, False)}, "6 values, but there are 5 blocks: conv1, lay"),
    ],
)
def test_masks_and_patterns_without_effect_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("resnet50", **options)


def test_a_mask_of_a_missing_part_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.trainable_features has no effect"):
        builder.build(ModelConfig(name="softmax", trainable_features=(False,)), classes=10, channels=1, image_size=8)


def test_frozen_batchnorm_is_unchanged_by_training() -> None:
    torch.manual_seed(0)
    config = ModelConfig(name="resnet20", freeze=("conv1.*", "bn1.*", "layer1.*"))
    network = builder.build(config, classes=10, channels=3, image_size=32)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        network.eval()
        set_train(network)
        network(torch.randn(8, 3, 32, 32)).logsumexp(1).sum().backward()
        optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, initial[name])}
    assert not any(name.startswith(("conv1.", "bn1.", "layer1.")) for name in changed)
    assert {"layer2.0.bn1.running_mean", "layer2.0.bn1.weight", "layer2.0.bn1.num_batches_tracked"} < changed
    assert network.training
    assert network.layer2.training
