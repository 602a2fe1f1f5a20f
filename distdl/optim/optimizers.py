"""Optimizers from torch, LARS and LAMB from timm: which parameters get which rate and which penalty."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from distdl.config import OptimConfig
from distdl.eager import eager, eager_operators
from distdl.errors import missing
from distdl.models.parts import matching

Groups = list[dict[str, Any]]


def _sgd(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    return SGD(groups, momentum=config.momentum, nesterov=config.nesterov, fused=fused)


def _adam(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    return Adam(groups, betas=config.betas, eps=config.eps, fused=fused)


def _adamw(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    return AdamW(groups, betas=config.betas, eps=config.eps, fused=fused)


def _adagrad(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    return Adagrad(groups, eps=config.eps)


def _rmsprop(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    return RMSprop(groups, alpha=config.alpha, momentum=config.momentum, eps=config.eps)


def _lars(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    """You et al. 2017 (arXiv:1708.03888), with the paper's trust coefficient 0.001."""
    try:
        from timm.optim import Lars
    except ImportError:
        raise missing("timm, which has LARS", "large-batch") from None
    return Lars(_adapted(groups), momentum=config.momentum, trust_coeff=0.001)


def _lamb(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    """You et al. 2020 (arXiv:1904.00962), with bias correction; clipping is left to `optim.clip_norm`."""
    try:
        from timm.optim import Lamb
    except ImportError:
        raise missing("timm, which has LAMB", "large-batch") from None
    return Lamb(_adapted(groups), betas=config.betas, eps=config.eps, max_grad_norm=None)


def _adapted(groups: Groups) -> Groups:
    """What takes no penalty, biases and normalisation, takes no layer-wise rate either, as in the papers' own code.

    timm would else leave out all layers where `weight_decay` is 0, and be plain SGD or Adam.
    """
    return [{**group, "always_adapt": group["penalised"]} for group in groups]


OPTIMIZERS: dict[str, Callable[[Groups, OptimConfig, bool], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "lars": _lars,
    "lamb": _lamb,
}


def build(config: OptimConfig, model: nn.Module, *, global_batch: int, compiled: bool = False) -> Optimizer:
    """The optimizer of the parameters that train, grouped by rate and penalty.

    Each group has `peak_lr`, the rate at the top of the schedule: `lr` times its factor, scaled to the global batch.
    The configuration alone says rates, penalties and moments' decays: a state that is loaded brings only the moments,
    so that a run resumed on another number of devices, or with another rate, does as it is told.

    Args:
        model: on its device, with `requires_grad` set.
        global_batch: samples a step over all ranks.
        compiled: whether something is compiled in this process, so that torch's compiler is loaded anyway.
    Raises:
        UserError: for a pattern of `lr_factors` that matches nothing, and for a missing timm.
    """
    scale = global_batch / config.lr_batch if config.lr_batch else 1.0
    groups = [
        {
            "params": parameters,
            "lr": config.lr * scale * factor,
            "peak_lr": config.lr * scale * factor,
            "weight_decay": config.weight_decay if penalised else 0.0,
            "penalised": penalised,
        }
        for (factor, penalised), parameters in _grouped(config, model).items()
    ]
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    with nullcontext() if compiled else eager_operators():
        optimizer = OPTIMIZERS[config.name](groups, config, devices <= {"cpu", "cuda"})
    optimizer.register_load_state_dict_pre_hook(_keep_settings)
    return optimizer if compiled else eager(optimizer)


def _grouped(config: OptimConfig, model: nn.Module) -> dict[tuple[float, bool], list[nn.Parameter]]:
    """Trained parameters by (factor on the rate, whether the penalty holds for them), in the model's order."""
    named = dict(model.named_parameters())
    factors = dict.fromkeys(named, 1.0)
    for pattern, factor in reversed(config.lr_factors):  # so that the first that matches has the last word
        factors |= dict.fromkeys(matching(pattern, named, "optim.lr_factors"), factor)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        if parameter.requires_grad:
            # Biases and the scales and shifts of normalisation are the parameters of one dimension.
            penalised = config.decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault((factors[name], penalised), []).append(parameter)
    return groups


def _keep_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
    saved, own = state["param_groups"], optimizer.param_groups
    if len(saved) != len(own):
        return None  # torch says what does not fit
    return {**state, "param_groups": [_settled(theirs, ours) for theirs, ours in zip(saved, own, strict=True)]}


def _settled(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    # LAMB counts its steps in the group: that is state, as the indices of the parameters are.
    return theirs | {key: value for key, value in ours.items() if key not in ("params", "step")}
