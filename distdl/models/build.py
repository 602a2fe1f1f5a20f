"""Networks by name: distdl's own, torchvision's classifiers, and those of other packages.

One builder serves training, counting and planning. A network is a row of the registry, an entry point of the group
`distdl.models`, or "package.module:callable". Its factory is called with those of these keyword arguments that its
signature names, then with its settings from `Config.options["model"]` (`--options model.width=4`):

    classes: outputs of the last layer.
    channels: of the images, 1 or 3.
    image_size: height and width in pixels.
    weights_follow: whether weights are loaded afterwards, so that initial ones are not needed.

    def tiny(*, classes: int, channels: int, image_size: int, width: int = 8) -> nn.Module: ...

It returns a module from images [b, channels, image_size, image_size] to logits [b, classes]. What else distdl should
know about the network, such as which modules contain its blocks, is in the network's attribute `family`
(`models.family.Family`).
"""

import inspect
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distdl.core import registry
from distdl.core.components import COMPONENTS
from distdl.core.config import ModelConfig
from distdl.core.errors import UserError, nearest, reason
from distdl.core.registry import NO_OPTIONS, Options, Row
from distdl.models import freezing, torchvision, weights
from distdl.profiling.counting.meta import weightless
from distdl.runtime.process import NO_MEMORY
from distdl.runtime.torch_private import eager_operators


def rows() -> dict[str, Row]:
    """Rows of all networks, distdl's own first. Rows of other packages hide none of torchvision's."""
    shipped = COMPONENTS["models"] | {name: torchvision.row(name) for name in torchvision.names()}
    return shipped | registry.rows("models") | shipped


def names() -> list[str]:
    """Names of all networks, distdl's own first."""
    return list(rows())


def find(name: str) -> Row:
    """The row of a network, or one for "package.module:callable". distdl's own are found without torchvision's import.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    if name in COMPONENTS["models"]:
        return COMPONENTS["models"][name]
    if ":" in name:
        return Row(factory=name)
    known = rows()
    if name not in known:
        raise UserError(
            f'model.name: network "{name}" is not known{nearest(name, known)} (distdl list models shows all)'
        )
    return known[name]


def parameters(name: str) -> int | None:
    """Number of parameters of a network, or None for one of another package, which may need settings.

    torchvision's are for 1,000 classes, distdl's own for 32 x 32 color images of 10 classes.
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
    """The network of a training: on the CPU, with its weights, and with `requires_grad` set by its masks.

    Args:
        options: settings of the network's factory.
        meta: build it without values, for counting.
    Raises:
        UserError: for an unknown name or setting, images that the network cannot take, weights that do not fit, and
            masks or patterns that match nothing.
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
    """The network called `name` with its initial weights: the part of `build` that needs no configuration.

    Args:
        options: settings of the network's factory.
        weights_follow: the caller loads weights, so that initial ones are not needed.
        meta: build it without values, for counting.

    Raises:
        UserError: for an unknown name or setting, and if the factory fails or makes no module.
    """
    row = find(name)
    factory = registry.load(row)
    arguments = {"classes": classes, "channels": channels, "image_size": image_size, "weights_follow": weights_follow}
    with weightless() if meta else nullcontext():
        return _make(name, factory, arguments | row.traits.get("arguments", {}), options)


def _make(name: str, factory: Callable[..., Any], arguments: Options, options: Options) -> nn.Module:
    """Call the factory with those of `arguments` that its signature names, and with its settings from `options`."""
    if not callable(factory):
        raise UserError(f"{name} is not callable")
    try:
        named = inspect.signature(factory).parameters
        given = {key: value for key, value in arguments.items() if key in named}
        network = factory(**given, **registry.settings(factory, options, "options.model", named=given))
    except UserError:
        raise
    except Exception as error:
        if NO_MEMORY.search(reason(error)):
            raise
        size, what = arguments["image_size"], " ".join(str(error).split())
        raise UserError(
            f"{name} cannot be built for images of {size} x {size} pixels: {type(error).__name__}: {what}"
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{name} makes a {type(network).__name__}, not a torch.nn.Module")
    return network


def _check_shapes(network: nn.Module, name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a network that cannot take the images, or does not output one value per class."""
    channels, size, _ = shape
    try:
        logits = _pass_shapes(network, torch.empty(1, *shape, device="meta"))
    except Exception as error:  # a network may raise anything
        if "meta" in str(error):
            return  # an operator that does not run on shapes alone
        what = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{name} cannot take images of {channels} x {size} x {size} ({what}): set data.image_size; 224 suits most "
            "of torchvision's networks"
        ) from error
    if not isinstance(logits, Tensor):
        raise UserError(f"{name} outputs a {type(logits).__name__}, not a tensor of logits")
    if logits.shape != (1, classes):
        raise UserError(f"{name} outputs {list(logits.shape)} for one image, not [1, {classes}]: one value per class")


def _pass_shapes(network: nn.Module, images: Tensor) -> Any:
    """A forward pass that computes only shapes. `images` is on the meta device, `network` on any."""
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    is_training = network.training
    try:
        # The meta device would import torch's compiler: three seconds.
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
