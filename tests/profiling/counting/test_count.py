"""Counted totals, compared with hand calculations, torchvision's published figures, and autograd."""

import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distdl.core.errors import UserError
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless

TOTALS = [
    # parameters, forward multiply-adds and training FLOPs for one image
    ("alexnet", 61_100_840, 714_188_480, 4_144_577_280),
    ("vgg19", 143_667_240, 19_632_062_464, 117_618_966_528),
    ("resnet50", 25_557_032, 4_089_184_256, 24_299_077_632),
    ("mobilenet_v2", 3_504_872, 300_774_272, 1_782_969_600),
]


def without_weights(name: str, **options: object) -> nn.Module:
    with weightless(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from googlenet and inception_v3, about the initialization of weights
        return torchvision.models.get_model(name, weights=None, **options)


@pytest.mark.parametrize(("name", "parameters", "multiply_adds", "training_flops"), TOTALS)
def test_totals_of_known_networks(name, parameters, multiply_adds, training_flops):
    network = count(without_weights(name))
    assert network.parameters == parameters
    assert network.forward_flops == 2 * multiply_adds
    assert network.training_flops == training_flops
    assert network.warnings == ()


def test_the_share_of_convolutions_in_vgg19_is_correct():
    network = count(without_weights("vgg19"))
    convolutions = sum(layer.forward_flops for layer in network.layers if layer.kind == "conv")
    assert convolutions == 2 * 19_508_428_800
    assert round(100 * convolutions / network.forward_flops, 4) == 99.3702


SLOW = (
    "vit_h",
    "vit_l",
    "swin_b",
    "swin_v2_s",
    "swin_v2_b",
    "efficientnet_b7",
    "efficientnet_v2_m",
    "efficientnet_v2_l",
)
"""Networks that take seconds each, and are built from the same blocks as smaller ones."""


def published() -> list[object]:
    """Every classifier of torchvision at every image size for which it has weights."""
    cases = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            size = weights.transforms.keywords["crop_size"]
            marks = [pytest.mark.slow] if name.startswith(SLOW) else []
            cases.setdefault((name, size), pytest.param(name, size, weights, id=f"{name}-{size}", marks=marks))
    return list(cases.values())


OTHER_PARAMETERS = {"googlenet": "torchvision's figure omits the two auxiliary heads, which googlenet() has"}
"""The FLOPs of all classifiers agree with torchvision's; the parameters of these do not."""


@pytest.mark.parametrize(("name", "size", "weights"), published())
def test_counts_match_torchvisions_published_figures(name, size, weights):
    network = count(without_weights(name, **({"image_size": size} if name.startswith("vit_") else {})), (3, size, size))
    assert network.forward_flops / 2e9 == pytest.approx(weights.meta["_ops"], abs=0.001)
    assert (network.parameters == weights.meta["num_params"]) == (name not in OTHER_PARAMETERS)
    unused = [warning for warning in network.warnings if "are not used" in warning]
    assert len(network.warnings) == len(unused) == (name in ("googlenet", "inception_v3"))  # their auxiliary heads


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "squeezenet1_1", "vit_b_32"])
def test_gradient_flops_match_autograd(name):
    # torch's counter is correct for these networks: they have no grouped convolutions, and fused operators are off.
    model = without_weights(name).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model(torch.empty(2, 3, 224, 224)).sum().backward()
    assert count(model, batch=2).training_flops == counter.get_total_flops()


def test_flops_are_proportional_to_the_batch():
    single, many = count(without_weights("mobilenet_v2")), count(without_weights("mobilenet_v2"), batch=8)
    assert many.forward_flops == 8 * single.forward_flops
    assert many.training_flops == 8 * single.training_flops
    assert many.parameters == single.parameters


def test_auxiliary_heads_count_in_training_only():
    model = without_weights("inception_v3")
    evaluated, trained = (count(model, (3, 299, 299), 2, training=training) for training in (False, True))
    assert trained.forward_flops > evaluated.forward_flops
    assert trained.parameters == evaluated.parameters == 27_161_264
    assert "3,326,696 parameters are not used" in evaluated.warnings[0] and trained.warnings == ()


def test_layers_are_in_order_with_shapes_and_traffic():
    conv, norm, relu, flatten_free_dense = count(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)),
        (3, 6, 6),
        batch=2,
    ).layers
    assert [layer.name for layer in (conv, norm, relu, flatten_free_dense)] == ["0", "1", "2", "4"]
    assert [layer.kind for layer in (conv, norm, relu, flatten_free_dense)] == ["conv", "norm", "activation", "dense"]
    assert (conv.input_shape, conv.output_shape) == ((2, 3, 6, 6), (2, 8, 6, 6))
    assert conv.read_bytes == 4 * (2 * 3 * 36 + 8 * 3 * 9 + 8)
    assert conv.write_bytes == 4 * 2 * 8 * 36
    assert conv.intensity == conv.forward_flops / (conv.read_bytes + conv.write_bytes)
    assert conv.input_grad_flops == 0  # the gradient of the images is not needed
    assert conv.parameters == 8 * 3 * 9 + 8 and norm.parameters == 16


def test_bytes_depend_on_the_type_of_the_weights():
    model = nn.Linear(6, 4)
    assert count(model, (6,)).layers[0].write_bytes == 16
    assert count(model.half(), (6,)).layers[0].write_bytes == 8
    assert count(model, (6,), dtype_bytes=1).layers[0].write_bytes == 4


def test_counting_does_not_change_the_model():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).train()
    previous = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model, (6,), batch=2)
    assert model.training and all(module.training for module in model)
    assert all(torch.equal(tensor, previous[name]) for name, tensor in model.state_dict().items())
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


class ReadsValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.sum().item()


class HoldsALock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.file = open(__file__)  # noqa: PTH123, SIM115


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Linear(6, 4), (5,), "Linear cannot be counted at input 1x5"),
        (ReadsValues(), (5,), "on the meta device"),
        (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (6,), "a batch of 2 or more"),
        (HoldsALock(), (6,), "cannot be copied"),
    ],
)
def test_a_network_that_cannot_be_counted_is_an_error(model, shape, message):
    with pytest.raises(UserError, match=message):
        count(model, shape, training=True)


def test_a_scripted_module_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Linear(4, 4), torch.zeros(1, 4))
    with pytest.raises(UserError, match="count the module from which it was made"):
        count(scripted, (4,))
