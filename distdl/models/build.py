"""Networks by name: distdl's own, torchvision's classifiers, and those of other packages.

Training, counting and planning use the same builder. A network is a row of the registry, an entry point of the group
`distdl.models`, or "package.module:callable". Its factory receives those of the following keyword arguments that are in
its signature, and its settings from `Config.options["model"]` (`--options model.width=4`):

    classes: number of classes, which is the number of outputs of the last layer.
    channels: number of channels of the images, 1 or 3.
    image_size: height and width of the images in pixels.
    weights_follow: whether weights are loaded afterwards, so that the initial values do not matter.

    def tiny(*, classes: int, channels: int, image_size: int, width: int = 8) -> nn.Module: ...

It returns a module that maps images [b, channels, image_size, image_size] to logits [b, classes]. Additional properties
of the network, such as the names of modules that contain its blocks, are in its attribute `family`
(`models.family.Family`).
"""

import itertools
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distdl.core import factories, registry
from distdl.core.components import COMPONENTS
from distdl.core.config import ModelConfig
from distdl.core.contracts import ComponentError, described
from distdl.core.errors import UserError, nearest, reason
from distdl.core.factories import Factory
from distdl.core.kinds import Row
from distdl.core.registry import NO_OPTIONS, Options
from distdl.models import freezing, torchvision, weights
from distdl.profiling.counting.meta import weightless
from distdl.runtime.process import NO_MEMORY
from distdl.runtime.torch_private import eager_operators


def rows() -> dict[str, Row]:
    """Return the rows of all networks, distdl's own first. Other packages cannot replace torchvision's networks."""
    shipped = COMPONENTS["models"] | {name: torchvision.row(name) for name in torchvision.names()}
    return shipped | registry.rows("models") | shipped


def names() -> list[str]:
    """Return the names of all networks, distdl's own first."""
    return list(rows())


def find(name: str) -> Row:
    """Return the row of a network, or one for "package.module:callable".

    For distdl's own networks torchvision is not imported.

    Raises:
        UserError: the name is not known; the message suggests the most similar one.
    """
    if name in COMPONENTS["models"] or ":" in name:
        return registry.find("models", name)
    if name in torchvision.names():
        return torchvision.row(name)
    if name in registry.rows("models"):
        return registry.find("models", name)
    raise UserError(
        f'model.name: network "{name}" is not known{nearest(name, names())} (package.module:callable is accepted too; '
        "distdl list models shows all)"
    )


def parameters(name: str) -> int | None:
    """Return a network's number of parameters, or None for a network of another package, which may need settings.

    It is for 1,000 classes for torchvision's networks, and for 10 classes of 32 x 32 color images for distdl's own.
    """
    if name in COMPONENTS["models"]:
        network = create(name, classes=10, channels=3, image_size=32, meta=True)
        return sum(parameter.numel() for parameter in network.parameters())
    return torchvision.parameters(name) if name in torchvision.names() else None


def build(
    config: ModelConfig,
    *,
    classes: int,
    channels: int,
    image_size: int,
    options: Options = NO_OPTIONS,
    meta: bool = False,
) -> nn.Module:
    """Build the network of a training on the CPU, load its weights, and set `requires_grad` by its masks.

    Args:
        options: settings of the network's factory.
        meta: build it on the meta device, without values, for counting.
    Raises:
        UserError: the name or a setting is not known, the network cannot process such images, the weights do not fit,
            or a mask or pattern matches nothing.
    """
    weights_follow = config.weights != "none"
    network = create(
        config.name,
        classes=classes,
        channels=channels,
        image_size=image_size,
        options=options,
        weights_follow=weights_follow,
        meta=meta,
    )
    _check_shapes(network, config.name, (channels, image_size, image_size), classes)
    if weights_follow and not meta:
        weights.load(network, config.weights, name=config.name, part=config.weights_part)
    if config.dropout >= 0:
        _set_dropout(network, config)
    freezing.set_trainable(network, config)
    return network


def create(
    name: str,
    *,
    classes: int,
    channels: int,
    image_size: int,
    options: Options = NO_OPTIONS,
    weights_follow: bool = False,
    meta: bool = False,
) -> nn.Module:
    """Build the network `name` with its initial weights, as `build` does before it applies a configuration.

    Args:
        options: settings of the network's factory.
        weights_follow: whether the caller loads weights, so that the initial values do not matter.
        meta: build it on the meta device, without values, for counting.
    Raises:
        UserError: the name or a setting is not known, the factory fails, or it does not return a module.
    """
    row = find(name)
    factory = factories.get("models", name, row)
    arguments = {"classes": classes, "channels": channels, "image_size": image_size, "weights_follow": weights_follow}
    with weightless() if meta else nullcontext():
        return _make(factory, arguments | row.traits.get("arguments", {}), options)


def _make(factory: Factory, arguments: Options, options: Options) -> nn.Module:
    """Call the factory with those of `arguments` that are in its signature, and with its settings from `options`."""
    accepted = {key: value for key, value in arguments.items() if key in factory.parameters}
    construct = factory.bound(options, **accepted)
    try:
        network = construct()
    except UserError:
        raise
    except Exception as error:
        if NO_MEMORY.search(reason(error)):
            raise
        size, message = arguments["image_size"], " ".join(str(error).split())
        raise UserError(
            f"{factory.name} cannot be built for images of {size} x {size} pixels: {type(error).__name__}: {message}"
        ) from error
    return factory.require(network)


def _check_shapes(network: nn.Module, name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a network that cannot process the images, or does not output one value per class."""
    channels, size, _ = shape
    try:
        logits = _pass_shapes(network, torch.empty(1, *shape, device="meta"))
    except Exception as error:  # a network may raise anything
        if "meta" in str(error):
            return  # an operator that does not run on the meta device
        message = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{name} cannot process images of {channels} x {size} x {size} ({message}): set data.image_size; 224 works "
            "for most of torchvision's networks"
        ) from error
    if not isinstance(logits, Tensor):
        raise ComponentError(f"model.name: {name} returned {described(logits)}; expected a tensor of logits")
    if logits.shape != (1, classes):
        raise ComponentError(
            f"model.name: {name} returned {list(logits.shape)} for one image; expected [1, {classes}]: one value per "
            "class"
        )


def _pass_shapes(network: nn.Module, images: Tensor) -> Any:
    """Run a forward pass that computes only shapes. `images` is on the meta device, `network` on any device."""
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    is_training = network.training
    try:
        # Without eager_operators, the meta device imports torch's compiler, which takes three seconds.
        with torch.no_grad(), eager_operators():
            return functional_call(network.eval(), {name: tensor.to("meta") for name, tensor in tensors}, (images,))
    finally:
        network.train(is_training)


def _set_dropout(network: nn.Module, config: ModelConfig) -> None:
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise UserError(f"model.dropout has no effect: {config.name} has no dropout; remove it")
    for layer in layers:
        layer.p = config.dropout
