"""What a person may call a network."""

import pytest

from distdl.core import profiles as resolve
from distdl.core.errors import UserError
from distdl.data.sets import load as datasets
from distdl.planner.workload import named
from distdl.profiling.counting.count import count

OWN_NETWORK = """
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
def gives_number():
    return 3
"""


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        ("alexnet", (3, 224, 224), 61_100_840),
        ("regnet_y_400mf", (3, 224, 224), 4_344_144),  # computes its widths with tensors when it is made
        ("efficientnet_b1", (3, 240, 240), 7_794_184),
        ("vit_b_16", (3, 224, 224), 86_567_656),
        ("inception_v3", (3, 299, 299), 27_161_264),
        ("fcn_resnet50", (3, 224, 224), 32_957_013),  # not a classifier
        ("resnet20", (3, 32, 32), 269_722),  # distdl's own
        ("digits", (1, 8, 8), 38_282),  # a profile
        ("mnist-cnn", (1, 28, 28), 3_274_634),  # a profile whose data need not be at hand
    ],
)
def test_names(name, input_shape, parameters):
    subject = named(name)
    assert subject.input_shape == input_shape
    assert count(subject.module, subject.input_shape).parameters == parameters
    heavy = [parameter for parameter in subject.module.parameters() if parameter.numel() > 1_000_000]
    assert all(parameter.is_meta for parameter in heavy)


def test_a_transformer_is_made_for_the_size_that_is_asked():
    assert count(named("vit_b_16", (3, 384, 384)).module, (3, 384, 384)).parameters == 86_859_496
    assert count(named("maxvit_t", (3, 448, 448)).module, (3, 448, 448)).forward_flops > 0


def test_a_profile_gives_its_batch_and_its_freezing(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "digits"\n[data]\nbatch_size = 7\n[model]\nfreeze = ["features*"]\n')
    subject = named("mine.toml")
    assert (subject.name, subject.batch, subject.input_shape) == ("mine", 7, (1, 8, 8))
    layers = {layer.name: layer for layer in count(subject.module, subject.input_shape).layers}
    assert layers["features.0"].weight_grad_flops == 0
    assert layers["classifier.0"].weight_grad_flops > 0 and layers["classifier.0"].input_grad_flops == 0


@pytest.mark.parametrize("attribute", ["sequence", "Small", "make"])
def test_modules_of_ones_own(tmp_path, attribute):
    (tmp_path / "own_network.py").write_text(OWN_NETWORK)
    subject = named(f"own_network:{attribute}", (4,))
    assert subject.name == f"own_network:{attribute}"
    assert count(subject.module, subject.input_shape).parameters == 15


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet5", 'did you mean "resnet'),
        ("nothing_like_it", "no network, profile or package.module:callable"),
        ("missing.toml", "there is no profile file"),
        ("no_such_module:thing", "ModuleNotFoundError"),
        ("own_network:absent", "absent"),
        ("own_network:broken", "RuntimeError: no such thing"),
        ("own_network:number", "not callable"),
        ("own_network:gives_number", "gives a int, not a torch.nn.Module"),
    ],
)
def test_names_of_nothing(tmp_path, name, says):
    (tmp_path / "own_network.py").write_text(OWN_NETWORK)
    with pytest.raises(UserError, match=says):
        named(name)


def test_classes_that_are_known_are_those_of_the_data(data_root, monkeypatch):
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    for name in ("digits", "mnist", "cifar10", "cifar100", "synthetic"):
        config = resolve.validate({"data": {"name": name}}, where="test").data
        assert len(datasets.load(config).classes) == datasets.source_of(name).classes > 0
