"""Freezing of parameters by masks and patterns, and the training mode of frozen BatchNorm."""

import copy

import torch
from torch import nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.core.patterns import matching
from distdl.models.blocks import split


def set_trainable(network: nn.Module, config: ModelConfig) -> None:
    """Set `requires_grad` of every parameter by the masks and patterns of `config`.

    Raises:
        UserError: a pattern matches nothing, a mask has more values than blocks, or all parameters are frozen.
    """
    names = [name for name, _ in network.named_parameters()]
    frozen: set[str] = set()
    if config.trainable_features:
        frozen |= _masked("model.trainable_features", config.trainable_features, split(network).features)
    if config.trainable_classifier:
        frozen |= _masked("model.trainable_classifier", config.trainable_classifier, split(network).classifier)
    if config.train_only:
        frozen |= set(names).difference(
            *(matching(pattern, names, "model.train_only") for pattern in config.train_only)
        )
    for pattern in config.freeze:
        frozen |= matching(pattern, names, "model.freeze")
    if frozen.issuperset(names):
        raise UserError("the model's masks and patterns freeze all of its parameters: at least one must be trained")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)


def _masked(field: str, mask: tuple[bool, ...], blocks: dict[str, list[str]]) -> set[str]:
    if not blocks:
        raise UserError(f"{field} has no effect: the network has no such part; remove it")
    # More values than blocks are allowed if they repeat the value of the last block.
    if any(value != mask[len(blocks) - 1] for value in mask[len(blocks) :]):
        raise UserError(
            f"{field} has {len(mask)} values, but there are {len(blocks)} blocks: {', '.join(blocks)} (each is trained "
            "or frozen completely; use model.freeze for single parameters)"
        )
    values = [*mask, *[mask[-1]] * len(blocks)]
    return {name for names, trains in zip(blocks.values(), values, strict=False) if not trains for name in names}


def check_smallest_piece(network: nn.Module, shape: tuple[int, ...], samples: int) -> None:
    """Refuse micro-batches that are too small for the statistics of BatchNorm.

    Args:
        shape: shape of one image, [C, H, W].
        samples: size of the smallest micro-batch of any rank in the epoch; 0 if a rank has none in some step and
            processes a padding sample.
    Raises:
        UserError: BatchNorm would fail, or would use a padding sample for its statistics.
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
        f"in an epoch's last step a rank would have {samples or 'no'} sample{'s' * (not samples)}, too few for the "
        "statistics of BatchNorm: add --data.drop-last, or choose a batch size of at least 3 per rank and micro-batch"
    )


def set_train(network: nn.Module) -> None:
    """Set training mode, except for frozen BatchNorm, which keeps its running statistics.

    A BatchNorm is frozen if its weight and bias are; updating its running statistics would still change its output.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            scales = list(module.parameters(recurse=False))
            if scales and not any(parameter.requires_grad for parameter in scales):
                module.eval()
