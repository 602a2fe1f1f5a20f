"""Optimizers from torch, LARS and LAMB from timm, with a rate and a penalty for each group of parameters."""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from distdl.core import registry
from distdl.core.config import OptimConfig
from distdl.core.errors import missing
from distdl.core.patterns import matching
from distdl.core.registry import NO_OPTIONS, Options
from distdl.runtime.torch_private import eager, eager_operators

Groups = list[dict[str, Any]]
Betas = tuple[float, float]
Constructor = Callable[[Groups], Optimizer]


def sgd(groups: Groups, *, momentum: float = 0.0, nesterov: bool = False, fused: bool = False) -> Optimizer:
    return SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused)


def adam(groups: Groups, *, betas: Betas = (0.9, 0.999), eps: float = 1e-8, fused: bool = False) -> Optimizer:
    return Adam(groups, betas=betas, eps=eps, fused=fused)


def adamw(groups: Groups, *, betas: Betas = (0.9, 0.999), eps: float = 1e-8, fused: bool = False) -> Optimizer:
    return AdamW(groups, betas=betas, eps=eps, fused=fused)


def adagrad(groups: Groups, *, eps: float = 1e-8) -> Optimizer:
    return Adagrad(groups, eps=eps)


def rmsprop(groups: Groups, *, momentum: float = 0.0, alpha: float = 0.99, eps: float = 1e-8) -> Optimizer:
    return RMSprop(groups, alpha=alpha, momentum=momentum, eps=eps)


def lars(groups: Groups, *, momentum: float = 0.0) -> Optimizer:
    """You et al. 2017 (arXiv:1708.03888), with the paper's trust coefficient 0.001."""
    try:
        from timm.optim.lars import Lars
    except ImportError:
        raise missing("timm, which has LARS", "large-batch") from None
    settings: dict[str, Any] = {"momentum": momentum, "trust_coeff": 0.001}  # timm declares momentum as int
    return Lars(_adapted(groups), **settings)


def lamb(groups: Groups, *, betas: Betas = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """You et al. 2020 (arXiv:1904.00962), with bias correction; clipping is left to `optim.clip_norm`."""
    try:
        from timm.optim.lamb import Lamb
    except ImportError:
        raise missing("timm, which has LAMB", "large-batch") from None
    return Lamb(_adapted(groups), betas=betas, eps=eps, max_grad_norm=None)


def _adapted(groups: Groups) -> Groups:
    """Groups with a layer-wise rate for parameters with a penalty only, as in the papers' code.

    timm itself would apply no layer-wise rate if `weight_decay` is 0, and be plain SGD or Adam.
    """
    return [{**group, "always_adapt": group["penalised"]} for group in groups]


def build(
    config: OptimConfig,
    model: nn.Module,
    *,
    global_batch: int,
    compiled: bool = False,
    options: Options = NO_OPTIONS,
) -> Optimizer:
    """The optimizer of the parameters that train, grouped by rate and penalty.

    Each group has `peak_lr`, the rate at the top of the schedule: `lr` times its factor, scaled to the global batch.
    Rates, penalties and decays of moments are those of the configuration: only the moments are loaded from a state, so
    that a run resumed on another number of devices, or with another rate, uses the new settings.

    Args:
        model: on its device, with `requires_grad` set.
        global_batch: samples per step over all ranks.
        compiled: whether something is compiled in this process, so that torch's compiler is loaded anyway.
        options: settings that are no fields of `config`, for optimizers of other packages.
    Raises:
        UserError: for a pattern of `lr_factors` that matches nothing, and for a missing timm.
    """
    scale = global_batch / config.lr_reference_batch if config.lr_reference_batch else 1.0
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
        optimizer = make(groups, config, devices <= {"cpu", "cuda"}, options)
    return optimizer if compiled else eager(optimizer)


def make(groups: Groups, config: OptimConfig, fused: bool, options: Options = NO_OPTIONS) -> Optimizer:
    """An optimizer that loads only a state that fits its parameters, and no settings from it.

    Args:
        fused: use fused kernels if the optimizer has them.
        options: settings that are no fields of `config`, for optimizers of other packages.
    Raises:
        UserError: for a setting that the optimizer does not have, and for a missing package.
    """
    construct = _constructor(config, fused, options)
    optimizer = construct(groups)
    optimizer.register_load_state_dict_pre_hook(partial(_checked, construct))
    return optimizer


def _constructor(config: OptimConfig, fused: bool, options: Options) -> Constructor:
    """The factory of the configured optimizer with its settings: the fields that its row uses, and the options."""
    row = registry.find("optimizers", config.name)
    factory = registry.load(row)
    fields = registry.field_values(row, config, "optim")
    if fused and "fused" in inspect.signature(factory).parameters and "fused" not in options:
        fields["fused"] = True
    settings = registry.settings(factory, options, "options.optimizer", positional=1, named=fields)
    return partial(factory, **fields, **settings)


def names(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """Names of the parameters in each group of an optimizer: its state is stored in their order."""
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[by_id[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def _grouped(config: OptimConfig, model: nn.Module) -> dict[tuple[float, bool], list[nn.Parameter]]:
    """Trained parameters by (factor on the rate, whether they have a penalty), in the model's order."""
    named = dict(model.named_parameters())
    factors = dict.fromkeys(named, 1.0)
    for pattern, factor in reversed(config.lr_factors):  # so that the first match is applied last
        factors |= dict.fromkeys(matching(pattern, named, "optim.lr_factors"), factor)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        if parameter.requires_grad:
            # Biases and the scales and shifts of normalisation are the parameters of one dimension.
            penalised = config.decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault((factors[name], penalised), []).append(parameter)
    return groups


def _checked(construct: Constructor, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """`state` with the optimizer's own settings, for torch to load: torch compares only the groups' lengths.

    Moments get the memory format of their parameter: fused steps pair them by their order in memory.

    Raises:
        ValueError: if it is not the state of such an optimizer of such parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    if problem := _problem(construct, optimizer, state, groups):
        raise ValueError(problem)
    merged = [saved | _settings(group) for saved, group in zip(state["param_groups"], groups, strict=True)]
    parameters = _parameters(optimizer)
    moments = {
        index: {name: _formatted(value, parameters[index]) for name, value in slots.items()}
        for index, slots in state["state"].items()
    }
    return {**state, "state": moments, "param_groups": merged}


def _formatted(value: Any, parameter: nn.Parameter) -> Any:
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    # LAMB counts its steps in the group: that is state, as the indices of the parameters are.
    return {key: value for key, value in group.items() if key not in ("params", "step")}


def _problem(construct: Constructor, optimizer: Optimizer, state: Any, expected: Groups) -> str:
    """The reason why a state cannot be loaded into the optimizer; empty if it can."""
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return "it holds no state"
    groups, moments = state.get("param_groups"), state["state"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "it holds no groups of parameters"
    if [group.get("params") for group in groups] != [group["params"] for group in expected]:
        return "its parameters are others, or grouped in another way"
    if not all(_is_count(group.get("step", 0)) for group in groups):
        return "param_groups.step is not a number"
    parameters, layout = _parameters(optimizer), _layout(construct)
    for index, slots in moments.items():
        if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(slots, dict):
            return f"state.{index} is of no parameter"
        for name, like in layout.items() if slots else ():
            value, shape = slots.get(name), parameters[index].shape if like.dim() else like.shape
            if not isinstance(value, torch.Tensor) or (value.shape, value.dtype) != (shape, like.dtype):
                return f"state.{index}.{name} is not a {like.dtype} tensor of shape {[*shape]}"
    return ""


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, torch.Tensor) and not value.dim())


def _layout(construct: Constructor) -> dict[str, torch.Tensor]:
    """State of an optimizer for a parameter of one dimension, after its first step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    with eager_operators():
        optimizer = eager(construct([{"params": [parameter], "lr": 0.1, "penalised": True}]))
        optimizer.step()
    return {name: value for name, value in optimizer.state[parameter].items() if value is not None}
