"""A network's two parts, the feature extractor and the classifier, their blocks, and which of them train."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.core.patterns import matching

CONTAINERS = ("features", "layers", "encoder", "trunk_output", "blocks")
"""Modules of torchvision's networks that only hold blocks, and so are no block themselves."""

_Norm = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Names of a network's parameters, by part and by block, in the order in which a sample meets the blocks.

    A block is a stage (`layer1`, `denseblock2`), an inverted residual, or a convolution or linear layer that stands
    alone; a normalisation belongs to the block before it. What has no parameters is in no block.
    """

    features: dict[str, list[str]]
    classifier: dict[str, list[str]]


def split(network: nn.Module) -> Parts:
    """Divide a network: the classifier is the child that gives the classes, the features are all the rest."""
    root = head(network).split(".")[0]
    features: list[tuple[str, list[str]]] = []
    bare = [name for name, _ in network.named_parameters(recurse=False)]
    for name, unit in _units(network, skip=root):
        if isinstance(unit, nn.Parameter):
            bare.append(name)
            continue
        names = [f"{name}.{inner}" for inner, _ in unit.named_parameters()]
        if isinstance(unit, _Norm) and features:
            features[-1][1].extend(names)
        elif names:
            features.append((name, names))
    if bare:  # class tokens and position embeddings go in with the first block
        features[0][1].extend(bare)
    classifier: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        if name.startswith(f"{root}."):
            classifier.setdefault(name.rpartition(".")[0], []).append(name)
    return Parts(features=dict(features), classifier=classifier)


def _units(module: nn.Module, skip: str = "", prefix: str = "") -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    for name, child in module.named_children():
        if name == skip and not prefix:
            continue
        if name in CONTAINERS:
            yield from ((f"{prefix}{name}.{inner}", value) for inner, value in child.named_parameters(recurse=False))
            yield from _units(child, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def head(network: nn.Module) -> str:
    """Name of the layer that gives the classes: the last linear one, or the last convolution (SqueezeNet, darknet)."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def set_trainable(network: nn.Module, config: ModelConfig) -> None:
    """Set `requires_grad` of every parameter as the masks and patterns of `config` say.

    Raises:
        UserError: for a pattern that matches nothing, a mask longer than there are blocks, and nothing left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    frozen: set[str] = set()
    parts = split(network)
    for field, mask, blocks in (
        ("model.trainable_features", config.trainable_features, parts.features),
        ("model.trainable_classifier", config.trainable_classifier, parts.classifier),
    ):
        frozen |= _masked(field, mask, blocks)
    if config.train_only:
        frozen |= set(names).difference(
            *(matching(pattern, names, "model.train_only") for pattern in config.train_only)
        )
    for pattern in config.freeze:
        frozen |= matching(pattern, names, "model.freeze")
    if frozen.issuperset(names):
        raise UserError("the model's masks and patterns freeze all of its parameters: leave something to train")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)


def _masked(field: str, mask: tuple[bool, ...], blocks: dict[str, list[str]]) -> set[str]:
    if not mask:
        return set()
    if not blocks:
        raise UserError(f"{field} has no effect: the network has no such part; leave it out")
    # Values beyond the last block say nothing as long as they repeat its value.
    if any(value != mask[len(blocks) - 1] for value in mask[len(blocks) :]):
        raise UserError(
            f"{field} has {len(mask)} values, but there are {len(blocks)} blocks: {', '.join(blocks)} (distdl trains "
            "or freezes each as a whole; by name, model.freeze is finer)"
        )
    values = [*mask, *[mask[-1]] * len(blocks)]
    return {name for names, trains in zip(blocks.values(), values, strict=False) if not trains for name in names}


def check_smallest_piece(network: nn.Module, shape: tuple[int, ...], samples: int) -> None:
    """Refuse micro batches that BatchNorm cannot take its statistics from.

    Args:
        shape: of one image, [C, H, W].
        samples: of the smallest micro batch of any rank in the epoch; 0 where a rank has none in some step, and takes
            one sample that must not count.
    Raises:
        UserError: the micro batch would end the training, or give statistics of a sample that does not count.
    """
    if samples > 1:
        return
    network = copy.deepcopy(network).to("meta")
    set_train(network)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if not norms:
        return
    if samples == 1:
        try:
            network(torch.empty(1, *shape, device="meta"))
            return
        except ValueError as error:  # from torch.nn.functional.batch_norm
            if "more than 1 value per channel" not in str(error):
                raise
    raise UserError(
        f"an epoch's last step would leave a rank {samples or 'no'} sample{'s' * (not samples)}, from which BatchNorm "
        "cannot take statistics: add --data.drop-last, or choose a batch size of at least 3 per rank and micro batch"
    )


def set_train(network: nn.Module) -> None:
    """`network.train()`, but for frozen BatchNorm, which keeps its statistics too.

    Frozen is one whose weight and bias do not train: with the running averages moving under it, it would not be.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
