"""Networks by name: each is built for the given classes and returns their logits."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import nn

from distdl.core import registry
from distdl.core.checkpoints import find
from distdl.core.components import COMPONENTS
from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as builder
from distdl.models.blocks import head, split
from distdl.models.build import build
from distdl.runtime.tensors import load
from jobs import Ranks, train

SIZES = {"digits-cnn": 8, "mnist-cnn": 28, "softmax": 28, "linear": 1, "inception_v3": 299}


# One network per family of torchvision. The others differ only in depth and width; their tests are slow.
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
    fast = FAMILIES.union(COMPONENTS["models"])
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in builder.names()]


def image_size(name: str) -> int:
    return SIZES.get(name, 32 if name in COMPONENTS["models"] else 224)


@pytest.mark.parametrize("name", networks())
def test_every_network_returns_logits_of_the_given_classes(name: str) -> None:
    """10 classes and one channel, on the meta device to avoid gigabytes of weights."""
    size = image_size(name)
    network = build(ModelConfig(name=name), classes=10, channels=1, image_size=size, meta=True).to("meta")
    with torch.device("meta"):
        assert network(torch.empty(2, 1, size, size)).shape == (2, 10)
    blocks = split(network)
    inside = [name for part in (blocks.features, blocks.classifier) for names in part.values() for name in names]
    assert sorted(inside) == sorted(name for name, _ in network.named_parameters())
    assert network.get_submodule(head(network)).weight.shape[0] == 10


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet", "resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_reach_every_parameter(name: str, channels: int) -> None:
    network = build(ModelConfig(name=name), classes=3, channels=channels, image_size=64)
    network.train()(torch.randn(2, channels, 64, 64)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_a_gray_network_equals_the_color_one_on_gray_images() -> None:
    gray = torch.randn(2, 1, 64, 64)
    torch.manual_seed(0)
    color = build(ModelConfig(name="resnet18"), classes=4, channels=3, image_size=64).eval()
    torch.manual_seed(0)
    network = build(ModelConfig(name="resnet18"), classes=4, channels=1, image_size=64).eval()
    torch.testing.assert_close(network(gray), color(gray.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet-50", "resnet50"), ("digit-cnn", "digits-cnn"), ("efficientnet-b0", "efficientnet_b0")],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f'"{name}" is not known; did you mean "{nearest}"'):
        build(ModelConfig(name=name), classes=10, channels=3, image_size=224)


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
def test_unsupported_image_sizes_and_channels_are_refused(name: str, size: int, channels: int, what: str) -> None:
    with pytest.raises(UserError, match=what):
        build(ModelConfig(name=name), classes=10, channels=channels, image_size=size)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t", "vit_b_16"])
def test_small_images_are_accepted_if_the_network_supports_them(name: str) -> None:
    network = build(ModelConfig(name=name), classes=5, channels=3, image_size=64)
    assert network.training
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_dropout_is_set_or_refused() -> None:
    network = build(ModelConfig(name="mnist-cnn", dropout=0.2), classes=10, channels=1, image_size=28)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.2]
    with pytest.raises(UserError, match="resnet20 has no dropout"):
        build(ModelConfig(name="resnet20", dropout=0.2), classes=10, channels=3, image_size=32)


def test_small_networks_do_not_import_torchvision() -> None:
    code = (
        "import sys; from distdl.core.config import ModelConfig; from distdl.models.build import build\n"
        "build(ModelConfig(name='digits-cnn'), classes=10, channels=1, image_size=8)\n"
        "build(ModelConfig(name='resnet20'), classes=10, channels=3, image_size=32)\n"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_users_network_receives_its_settings() -> None:
    config = ModelConfig(name="user_networks:Tiny")
    network = build(config, classes=5, channels=1, image_size=8, options={"width": "4"})
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    assert network.get_submodule("stages.0").out_channels == 4
    with pytest.raises(
        UserError,
        match=r'options\.model\.widths: .*Tiny has no setting .*; did you mean "width"\? \(its settings: width, bias\)',
    ):
        build(config, classes=5, channels=1, image_size=8, options={"widths": 4})
    with pytest.raises(
        UserError, match=r"options\.model\.width: digits-cnn has no setting 'width' \(it has no settings\)"
    ):
        build(ModelConfig(name="digits-cnn"), classes=5, channels=1, image_size=8, options={"width": 4})


def test_blocks_of_a_users_network_can_be_frozen() -> None:
    config = ModelConfig(name="user_networks:Tiny", trainable_features=(False, True))
    network = build(config, classes=5, channels=1, image_size=8)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"stages.0.weight", "stages.0.bias"}


def test_a_network_that_fails_on_the_meta_device_is_built() -> None:
    network = build(ModelConfig(name="user_networks:Reader"), classes=3, channels=1, image_size=4)
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thousand", r"returned \[1, 1000\] for one image; expected \[1, 10\]"),
        ("pair", "returned a tuple; expected a tensor of logits"),
        ("no_layer", "cannot process images of 1 x 8 x 8|no linear layer or convolution"),
        ("fails", "cannot be built for images of 8 x 8 pixels: RuntimeError: no such thing"),
        ("number", r"model.name: user_networks:number returned an int \(10\); expected a Module"),
        ("absent", "cannot import user_networks:absent"),
    ],
)
def test_an_invalid_user_network_is_a_one_line_error(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(ModelConfig(name=f"user_networks:{name}"), classes=10, channels=1, image_size=8)
    assert "\n" not in str(caught.value)


def test_entry_points_add_networks_but_replace_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint(name=name, value="user_networks:Tiny", group="distdl.models")
        for name in ("tiny", "resnet18", "digits-cnn")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "distdl.models" else [])
    assert type(builder.create("tiny", classes=3, channels=1, image_size=8)).__name__ == "Tiny"
    assert builder.find("resnet18").factory == "distdl.models.torchvision:classifier"
    assert builder.find("digits-cnn").factory == "distdl.models.small:digits_cnn"
    assert builder.names()[-1] == "tiny"
    assert builder.parameters("tiny") is None


def test_a_users_network_is_trained_and_saved(tmp_path: Path) -> None:
    network = ["--model.name", "user_networks:Tiny", "--options", "model.width=4"]
    train([*network, "--epochs", "1", "--out", str(tmp_path / "run")])
    state, _ = load(find(tmp_path / "run", warn=pytest.fail))
    assert state["model"]["stages.0.weight"].shape == (4, 1, 3, 3)


def test_an_unknown_name_is_an_error_before_data_is_read(tmp_path: Path) -> None:
    """The data root has no data set, so reading it would be another error."""
    argv = ["--model.name", "resnet5", "--data.name", "mnist", "--data.root", str(tmp_path), "--out", str(tmp_path)]
    job = Ranks(argv)
    assert job.wait() == [2]
    assert '"resnet5" is not known; did you mean "resnet' in job.text
    assert not list(tmp_path.iterdir())
