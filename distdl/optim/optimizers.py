"""Optimizers from torch, LARS and LAMB from timm, with a learning rate and a weight decay per parameter group."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from distdl.core import factories
from distdl.core.config import OptimConfig
from distdl.core.errors import missing
from distdl.core.factories import Factory
from distdl.core.patterns import matching
from distdl.core.registry import NO_OPTIONS, Options
from distdl.runtime.torch_private import eager, eager_operators

Groups = list[dict[str, Any]]
Betas = tuple[float, float]
Constructor = Callable[[Groups], Optimizer]


def sgd(groups: Groups, *, momentum: float = 0.0, nesterov: bool = False, fused: bool = False) -> Optimizer:
    """Build torch's SGD with momentum."""
    return SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused)


def adam(groups: Groups, *, betas: Betas = (0.9, 0.999), eps: float = 1e-8, fused: bool = False) -> Optimizer:
    """Build Adam (Kingma and Ba 2015, arXiv:1412.6980); weight decay is added to the gradient."""
    return Adam(groups, betas=betas, eps=eps, fused=fused)


def adamw(groups: Groups, *, betas: Betas = (0.9, 0.999), eps: float = 1e-8, fused: bool = False) -> Optimizer:
    """Build Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""
    return AdamW(groups, betas=betas, eps=eps, fused=fused)


def adagrad(groups: Groups, *, eps: float = 1e-8) -> Optimizer:
    """Build Adagrad (Duchi et al. 2011)."""
    return Adagrad(groups, eps=eps)


def rmsprop(groups: Groups, *, momentum: float = 0.0, alpha: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """Build RMSprop (Tieleman and Hinton 2012)."""
    return RMSprop(groups, alpha=alpha, momentum=momentum, eps=eps)


def lars(groups: Groups, *, momentum: float = 0.0) -> Optimizer:
    """Build LARS (You et al. 2017, arXiv:1708.03888) with the paper's trust coefficient 0.001.

    Raises:
        UserError: timm is not installed.
    """
    try:
        from timm.optim.lars import Lars
    except ImportError:
        raise missing("timm, which has LARS", "large-batch") from None
    settings: dict[str, Any] = {"momentum": momentum, "trust_coeff": 0.001}  # timm declares momentum as int
    return Lars(_adapted(groups), **settings)


def lamb(groups: Groups, *, betas: Betas = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Build LAMB (You et al. 2020, arXiv:1904.00962) with bias correction, without its own gradient clipping.

    Raises:
        UserError: timm is not installed.
    """
    try:
        from timm.optim.lamb import Lamb
    except ImportError:
        raise missing("timm, which has LAMB", "large-batch") from None
    return Lamb(_adapted(groups), betas=betas, eps=eps, max_grad_norm=None)


def _adapted(groups: Groups) -> Groups:
    """Enable the layer-wise learning rate for groups with weight decay only, as in the papers' code.

    By default timm uses it only if `weight_decay` is not 0, and otherwise behaves like SGD or Adam.
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
    """Build the optimizer of the trainable parameters, grouped by learning rate and weight decay.

    Each group has `peak_lr`, the maximum learning rate of the schedule: `lr` times the group's factor, scaled to the
    global batch size. Learning rates, weight decay and betas always come from the configuration. Only the moments are
    loaded from a saved state, so a run that is resumed with other settings or on more devices uses the new settings.

    Args:
        model: on its device, with `requires_grad` set.
        global_batch: samples per step over all ranks.
        compiled: whether something is compiled in this process, so that torch's compiler is imported anyway.
        options: settings that are not fields of `config`, for optimizers of other packages.
    Raises:
        UserError: a pattern of `lr_factors` matches nothing, or timm is missing.
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
    """Build an optimizer that refuses to load a state that does not fit its parameters, and loads no settings.

    Args:
        groups: parameter groups with the keys params, lr, weight_decay and penalised.
        fused: use fused kernels if the optimizer has them.
        options: settings that are not fields of `config`, for optimizers of other packages.
    Raises:
        UserError: the optimizer does not have a setting, or a package is missing.
    """
    factory = factories.get("optimizers", config.name)
    construct = _constructor(factory, config, fused, options)
    with factory.calling():
        optimizer = factory.require(construct(groups))
    optimizer.register_load_state_dict_pre_hook(partial(_check_state, construct))
    return optimizer


def _constructor(factory: Factory, config: OptimConfig, fused: bool, options: Options) -> Constructor:
    """Return the optimizer's callable with its settings: the fields that its row uses, and the options."""
    fields = factory.fields(config, "optim")
    if fused and "fused" in factory.parameters and "fused" not in options:
        fields["fused"] = True
    return factory.bound(options, **fields)


def names(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """Return the names of the parameters in each group of an optimizer, in the order in which its state is stored."""
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[by_id[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def _grouped(config: OptimConfig, model: nn.Module) -> dict[tuple[float, bool], list[nn.Parameter]]:
    """Group trainable parameters by (learning rate factor, whether they have weight decay), in the model's order."""
    named = dict(model.named_parameters())
    factors = dict.fromkeys(named, 1.0)
    for pattern, factor in reversed(config.lr_factors):  # so that the first match is applied last
        factors |= dict.fromkeys(matching(pattern, named, "optim.lr_factors"), factor)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        if parameter.requires_grad:
            # Biases and the scales and shifts of normalization are the one-dimensional parameters.
            penalised = config.decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault((factors[name], penalised), []).append(parameter)
    return groups


def _check_state(construct: Constructor, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Check a saved state, and replace its settings by the optimizer's own. torch compares only the groups' lengths.

    Moments get the memory format of their parameter, because fused kernels pair them by their order in memory.

    Raises:
        ValueError: it is the state of another optimizer, or of other parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    if problem := _problem(construct, optimizer, state, groups):
        raise ValueError(problem)
    merged = [saved | _settings(group) for saved, group in zip(state["param_groups"], groups, strict=True)]
    parameters = _parameters(optimizer)
    moments = {
        index: {name: _with_format_of(parameters[index], value) for name, value in slots.items()}
        for index, slots in state["state"].items()
    }
    return {**state, "state": moments, "param_groups": merged}


def _with_format_of(parameter: nn.Parameter, value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    # LAMB counts its steps in the group: this is state, like the indices of the parameters.
    return {key: value for key, value in group.items() if key not in ("params", "step")}


def _problem(construct: Constructor, optimizer: Optimizer, state: Any, expected: Groups) -> str:
    """Return the reason why a state cannot be loaded into the optimizer; empty if it can."""
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return "it has no state"
    groups, moments = state.get("param_groups"), state["state"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "it has no parameter groups"
    if [group.get("params") for group in groups] != [group["params"] for group in expected]:
        return "its parameters differ, or are grouped differently"
    if not all(_is_count(group.get("step", 0)) for group in groups):
        return "param_groups.step is not a number"
    parameters, layout = _parameters(optimizer), _layout(construct)
    for index, slots in moments.items():
        if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(slots, dict):
            return f"state.{index} belongs to no parameter"
        for name, like in layout.items() if slots else ():
            value, shape = slots.get(name), parameters[index].shape if like.dim() else like.shape
            if not isinstance(value, torch.Tensor) or (value.shape, value.dtype) != (shape, like.dtype):
                return f"state.{index}.{name} is not a {like.dtype} tensor of shape {[*shape]}"
    return ""


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, torch.Tensor) and not value.dim())


def _layout(construct: Constructor) -> dict[str, torch.Tensor]:
    """Return the state of an optimizer for a one-dimensional parameter after the first step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    with eager_operators():
        optimizer = eager(construct([{"params": [parameter], "lr": 0.1, "penalised": True}]))
        optimizer.step()
    return {name: value for name, value in optimizer.state[parameter].items() if value is not None}
