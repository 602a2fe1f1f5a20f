"""Network arguments of the command line: names, profiles and callables give the network that a training builds."""

import pytest

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.core.profiles import validate
from distdl.data.sets import load as datasets
from distdl.models.build import build
from distdl.planner.workload import named
from distdl.profiling.counting.count import count

USERS_NETWORK = """
from torch import nn
sequence = nn.Sequential(nn.Linear(4, 3))
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, x):
        return self.layer(x)
def make():
    return Small()
def broken():
    raise RuntimeError("no such thing")
number = 3
def makes_number():
    return 3
"""


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        ("alexnet", (3, 224, 224), 61_100_840),
        ("regnet_y_400mf", (3, 224, 224), 4_344_144),  # computes its widths with tensors when it is built
        ("efficientnet_b1", (3, 240, 240), 7_794_184),
        ("vit_b_16", (3, 224, 224), 86_567_656),
        ("inception_v3", (3, 299, 299), 23_834_568),  # without auxiliary heads: see below
        ("fcn_resnet50", (3, 224, 224), 32_957_013),  # not a classifier
        ("resnet20", (3, 32, 32), 269_722),  # included in distdl
        ("digits", (1, 8, 8), 38_282),  # a profile
        ("mnist-cnn", (1, 28, 28), 3_274_634),  # a profile whose data set need not be present
    ],
)
def test_names_give_networks_with_their_input_shapes(name, input_shape, parameters):
    subject = named(name)
    assert subject.input_shape == input_shape
    assert count(subject.module, subject.input_shape).parameters == parameters
    heavy = [parameter for parameter in subject.module.parameters() if parameter.numel() > 1_000_000]
    assert all(parameter.is_meta for parameter in heavy)


def test_a_transformer_is_built_for_the_given_image_size():
    assert count(named("vit_b_16", (3, 384, 384)).module, (3, 384, 384)).parameters == 86_859_496
    assert count(named("maxvit_t", (3, 448, 448)).module, (3, 448, 448)).forward_flops > 0


def test_a_profile_sets_batch_size_and_frozen_layers(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "digits"\n[data]\nbatch_size = 7\n[model]\nfreeze = ["features*"]\n')
    subject = named("mine.toml")
    assert (subject.name, subject.batch, subject.input_shape) == ("mine", 7, (1, 8, 8))
    layers = {layer.name: layer for layer in count(subject.module, subject.input_shape).layers}
    assert layers["features.0"].weight_grad_flops == 0
    assert layers["classifier.0"].weight_grad_flops > 0 and layers["classifier.0"].input_grad_flops == 0


@pytest.mark.parametrize("attribute", ["sequence", "Small", "make"])
def test_users_modules_are_accepted(tmp_path, attribute):
    (tmp_path / "users_network.py").write_text(USERS_NETWORK)
    subject = named(f"users_network:{attribute}", (4,))
    assert subject.name == f"users_network:{attribute}"
    assert count(subject.module, subject.input_shape).parameters == 15


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", 'did you mean "resnet'),
        ("nothing_like_it", "not a known network, profile or package.module:callable"),
        ("missing.toml", "there is no profile file"),
        ("no_such_module:thing", "there is no module no_such_module"),
        ("users_network:absent", "absent"),
        ("users_network:broken", "RuntimeError: no such thing"),
        ("users_network:number", "not callable"),
        ("users_network:makes_number", r"returned an int \("),
    ],
)
def test_invalid_names_are_refused(tmp_path, name, message):
    (tmp_path / "users_network.py").write_text(USERS_NETWORK)
    with pytest.raises(UserError, match=message):
        named(name)


def test_the_catalog_has_the_number_of_classes_of_the_data(data_root, monkeypatch):
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    for name in ("digits", "mnist", "cifar10", "cifar100", "synthetic"):
        config = validate({"data": {"name": name}}, where="test").data
        assert len(datasets.load(config).classes) == datasets.source_of(name).classes > 0


@pytest.mark.parametrize("network", ["inception_v3", "googlenet", "resnet18"])
def test_a_name_and_a_profile_are_the_network_that_a_training_builds(tmp_path, network):
    """Without auxiliary heads, because the single loss of a training gives them no gradient."""
    by_name = named(network)
    size = by_name.input_shape[-1]
    profile = tmp_path / "profile.toml"
    profile.write_text(f'extends = "resnet50-synthetic"\n[model]\nname = "{network}"\n[data]\nimage_size = {size}\n')
    by_profile = named(str(profile))
    trained = build(ModelConfig(name=network), classes=1000, channels=3, image_size=size)
    shapes = [
        {key: value.shape for key, value in module.named_parameters()}
        for module in (by_name.module, by_profile.module, trained)
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    counts = [count(each.module, each.input_shape, 2, training=True) for each in (by_name, by_profile)]
    assert counts[0].parameters == sum(parameter.numel() for parameter in trained.parameters())
    assert counts[0].training_flops == counts[1].training_flops
    assert not counts[0].warnings


def test_settings_of_a_profile_reach_the_network(tmp_path):
    (tmp_path / "tiny.toml").write_text(
        'extends = "digits"\n[model]\nname = "user_networks:Tiny"\n[options.model]\nwidth = 4\n'
    )
    module = named(str(tmp_path / "tiny.toml")).module
    assert module.get_submodule("stages.0").out_channels == 4
    assert named("user_networks:Tiny", (1, 8, 8)).module.get_submodule("classifier").out_features == 1000


def test_a_network_for_one_channel_is_counted_as_trained():
    assert count(named("resnet18", (1, 64, 64)).module, (1, 64, 64)).parameters == 11_689_512 - 2 * 64 * 7 * 7
