"""Networks by name: distdl's own for small images, and every torchvision classifier."""

import functools
import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError, nearest
from distdl.models import freezing as parts
from distdl.models import small, weights
from distdl.models.cifar_resnet import DEPTHS, CifarResNet
from distdl.models.darknet import DarknetTiny

OWN: dict[str, Callable[[int, int, int], nn.Module]] = {
    "digits-cnn": small.digits_cnn,
    "mnist-cnn": small.mnist_cnn,
    "mnist-fast": small.mnist_fast,
    "softmax": small.softmax,
    "linear": small.linear,
    "darknet-tiny": lambda classes, channels, image_size: DarknetTiny(classes=classes, channels=channels),
    **{
        f"resnet{depth}": functools.partial(
            lambda classes, channels, image_size, depth: CifarResNet(depth, classes=classes, channels=channels),
            depth=depth,
        )
        for depth in DEPTHS
    },
}
"""Builders called with (classes, channels, image_size). None needs torchvision, whose import takes seconds."""


def names() -> list[str]:
    """All networks, distdl's own first."""
    import torchvision

    return [*OWN, *torchvision.models.list_models(module=torchvision.models)]


def build(config: ModelConfig, *, classes: int, channels: int, image_size: int) -> nn.Module:
    """The network that `config` names: on the CPU, with its weights, and with `requires_grad` set by its masks.

    Args:
        classes: outputs of the last layer.
        channels: of the images, 1 or 3.
        image_size: height and width in pixels.
    Returns:
        A module from images [b, channels, image_size, image_size] to logits [b, classes].
    Raises:
        UserError: for an unknown name, images that the network cannot take, weights that do not fit, and masks or
            patterns that match nothing.
    """
    if config.name in OWN:
        if config.weights == "torchvision":
            raise UserError(f'torchvision has no weights for {config.name}: set model.weights to "none" or to a file')
        network = OWN[config.name](classes, channels, image_size)
    else:
        network = _from_torchvision(config, classes, channels, image_size)
    if config.weights != "none":
        weights.load(network, config.weights, name=config.name, part=config.weights_part)
    if config.dropout >= 0:
        _set_dropout(network, config)
    parts.set_trainable(network, config)
    return network


def _from_torchvision(config: ModelConfig, classes: int, channels: int, image_size: int) -> nn.Module:
    from torchvision.models import get_model

    name = config.name
    if name not in (known := names()):
        raise UserError(f'model.name: network "{name}" is not known{nearest(name, known)}')
    if channels not in (1, 3):
        raise UserError(f"{name} takes images of 1 or 3 channels, not {channels}")
    try:
        network = get_model(name, weights=None, num_classes=classes, **_options(config, channels, image_size))
        if channels == 1:
            _make_gray(network)
        if image_size < 224:  # which each takes; whether it takes less only a forward pass tells
            _pass_shapes(network, torch.empty(1, channels, image_size, image_size, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"{name} cannot take images of {image_size} x {image_size} ({str(error).splitlines()[0]}): set "
            "data.image_size, 224 suits most networks"
        ) from None
    return network


def _pass_shapes(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A forward pass in which only shapes are computed. `images` is on the meta device, `network` anywhere."""
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    training = network.training
    with torch.no_grad():
        logits = functional_call(network.eval(), {name: tensor.to("meta") for name, tensor in tensors}, (images,))
    network.train(training)
    return logits


def _options(config: ModelConfig, channels: int, image_size: int) -> dict[str, object]:
    """What some of torchvision's networks need to be told beside the classes."""
    if config.name in ("googlenet", "inception_v3"):
        return {
            # The trainer has one loss; BatchNorm does what the auxiliary classifiers were there for.
            "aux_logits": False,
            # These weights come from TensorFlow and want pixels in -1 to 1, made from ImageNet-normalised ones.
            "transform_input": config.weights != "none" and channels == 3,
            "init_weights": config.weights == "none",
        }
    if config.name.startswith(("resnet", "resnext", "wide_resnet")):
        # Each block begins as nothing but its shortcut: Goyal et al. 2017, section 5.1. ResNet-50 learns from the first
        # step on; without it its loss grows for dozens of them.
        return {"zero_init_residual": True}
    if config.name.startswith("vit_"):
        return {"image_size": image_size}
    if config.name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    return {}


def _make_gray(network: nn.Module) -> None:
    first = network.get_submodule(weights.first_convolution(network))
    first.in_channels = 1
    first.weight = nn.Parameter(weights.fold_to_gray(first.weight.detach()))


def _set_dropout(network: nn.Module, config: ModelConfig) -> None:
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise UserError(f"model.dropout has no effect: {config.name} has no dropout; leave it out")
    for layer in layers:
        layer.p = config.dropout
