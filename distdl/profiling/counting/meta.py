"""Copies of networks on the meta device, where tensors have shapes but no elements."""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from distdl.runtime.torch_private import device_constructors, eager_operators


def to_meta(tensor: Tensor) -> Tensor:
    """Return a meta tensor of the same shape, type and strides, which is not part of an autograd graph."""
    if is_lazy(tensor):
        return _lazy(type(tensor), tensor)
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def _lazy(kind: Callable[..., Tensor], tensor: Tensor) -> Tensor:
    """Return a meta tensor for a lazy module, whose shape is not known yet."""
    return kind(requires_grad=tensor.requires_grad, device="meta", dtype=tensor.dtype)


class _EmptyCopies(TorchFunctionMode):
    """Mode in which `copy.deepcopy` of a tensor returns a meta tensor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            return memo.setdefault(id(tensor), to_meta(tensor))
        return func(*args, **(kwargs or {}))


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the meta device. The model is not changed, and no weights are copied.

    Shared parameters stay shared. Wrappers that do not compute (torch.compile, DataParallel, DDP) are removed.
    """
    memo: dict[int, Any] = {id(tensor): to_meta(tensor) for tensor in (*model.parameters(), *model.buffers())}
    with _EmptyCopies():
        model = _unwrapped(copy.deepcopy(model, memo))
    for module in model.modules():
        for name, child in module.named_children():
            setattr(module, name, _unwrapped(child))
    return model


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = cast(nn.Module, module.module)
        elif hasattr(module, "_orig_mod"):  # torch.compile's
            module = cast(nn.Module, module._orig_mod)
        else:
            return module


FILLS = {"normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_"}


class _Weightless(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if func in device_constructors() and caller.startswith("torch.nn.modules") and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        elif getattr(func, "__name__", "") in FILLS:
            tensor = args[0] if args else kwargs["tensor"]  # torch.nn.init passes it by keyword
            if tensor.is_meta:
                return tensor  # there are no elements to fill, and the call would be slow
        return func(*args, **kwargs)


def weightless() -> TorchFunctionMode:
    """Return a mode in which layers of torch.nn are created on the meta device, without weights.

    With `torch.device("meta")`, tensors from which constructors compute their widths would have no values either.
    """
    return _Weightless()


@contextmanager
def eager_on_meta() -> Iterator[None]:
    """Context in which new tensors are on the meta device, autograd is enabled, and nothing is compiled."""
    # Without dynamo nothing can have been compiled, and importing it takes seconds.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else eager_operators()
    with torch.inference_mode(False), torch.enable_grad(), torch.device("meta"), eager:
        yield
