"""torchvision's networks: table rows, special cases, and weight files."""

from pathlib import Path

import pytest
import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as builder
from distdl.models import torchvision


def build(weights: str, *, name: str, classes: int = 10, size: int = 64) -> nn.Module:
    config = ModelConfig(name=name, weights=weights)
    return builder.build(config, classes=classes, channels=3, image_size=size)


def test_torchvision_weights_are_read_from_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    state = build("none", name="resnet18", classes=1000).state_dict()
    torch.save(state, file)
    network = build("torchvision", name="resnet18", size=64)
    assert torch.equal(network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert network.fc.out_features == 10


def test_a_failed_download_names_the_address_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # the discard port: refused at once, with or without a network
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # it keeps the proxies of its first use in the process
    with pytest.raises(
        UserError, match=r"weights of alexnet cannot be downloaded .*alexnet-owt-\w+.pth into .*checkpo"
    ):
        build("torchvision", name="alexnet", size=64)
    assert not list((tmp_path / "hub" / "checkpoints").glob("alexnet*"))


def test_other_networks_have_no_torchvision_weights() -> None:
    with pytest.raises(UserError, match="torchvision has no weights for resnet20"):
        build("torchvision", name="resnet20", size=32)


def test_every_classifier_has_a_paper_and_weights_with_a_hash() -> None:
    from torchvision.models import get_model_weights

    for name in torchvision.names():
        assert torch.hub.HASH_REGEX.search(Path(get_model_weights(name)["DEFAULT"].url).name), name
        assert len(torchvision.row(name).summary) > len("torchvision: "), name


@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "vit_b_16", "resnet18", "swin_t", "vit_h_14"])
def test_the_table_has_the_networks_numbers_of_parameters(name: str) -> None:
    size = torchvision.published_size(name)
    network = builder.create(name, classes=1000, channels=3, image_size=size, meta=True)
    assert torchvision.parameters(name) == sum(parameter.numel() for parameter in network.parameters())


def test_auxiliary_heads_are_never_built() -> None:
    for name in torchvision.AUXILIARY_HEADS:
        network = builder.create(name, classes=10, channels=3, image_size=299, meta=True)
        prefixes = torchvision.AUXILIARY_HEADS[name]
        assert not [key for key in network.state_dict() if key.startswith(prefixes)]


def test_networks_for_other_tasks_are_not_listed() -> None:
    assert {"fcn_resnet50", "r3d_18"} <= set(torchvision.other_names())
    assert not set(torchvision.other_names()) & set(torchvision.names())


@pytest.mark.parametrize("name", ["aux1.conv.conv.weight", "aux2.fc1.bias", "AuxLogits.conv0.bn.running_mean"])
def test_parameters_of_auxiliary_heads_are_recognized(name: str) -> None:
    assert torchvision._is_auxiliary(name)
    assert not torchvision._is_auxiliary(f"x.{name}")
