"""Division of a network into a feature extractor and a classifier, and of these into blocks."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from distdl.core.errors import UserError
from distdl.models.family import family_of

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Names of a network's parameters by part and block, in the order in which the blocks are defined.

    A block is a stage (`layer1`, `denseblock2`), an inverted residual, or a single convolution or linear layer. A
    normalization layer belongs to the previous block. Modules without parameters belong to no block.
    """

    features: dict[str, list[str]]
    classifier: dict[str, list[str]]


def split(network: nn.Module) -> Blocks:
    """Divide a network: the classifier is the child module with the last layer, the features are the other children.

    Raises:
        UserError: the network has no layer that could output the classes.
    """
    root = head(network).split(".")[0]
    features: list[tuple[str, list[str]]] = []
    unassigned = [name for name, _ in network.named_parameters(recurse=False)]
    for name, unit in _units(network, family_of(network).containers, skip=root):
        if isinstance(unit, nn.Parameter):
            unassigned.append(name)
            continue
        names = [f"{name}.{inner}" for inner, _ in unit.named_parameters()]
        if isinstance(unit, _NORMS) and features:
            features[-1][1].extend(names)
        elif names:
            features.append((name, names))
    if unassigned and features:  # class tokens and position embeddings belong to the first block
        features[0][1].extend(unassigned)
    elif unassigned:
        features.append(("parameters", unassigned))
    classifier: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        if name.startswith(f"{root}."):
            classifier.setdefault(name.rpartition(".")[0], []).append(name)
    return Blocks(features=dict(features), classifier=classifier)


def _units(
    module: nn.Module, containers: tuple[str, ...], skip: str = "", prefix: str = ""
) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    for name, child in module.named_children():
        if name == skip and not prefix:
            continue
        if name in containers:
            yield from ((f"{prefix}{name}.{inner}", value) for inner, value in child.named_parameters(recurse=False))
            yield from _units(child, containers, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def head(network: nn.Module) -> str:
    """Return the name of the layer that outputs the classes: the last linear layer, or the last convolution.

    Raises:
        UserError: the network has neither.
    """
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not layers:
        raise UserError("the network has no linear layer or convolution whose outputs could be the classes")
    return layers[-1]
