"""Observation of a forward pass: torch's functions, the dispatcher's operators, and the modules that call them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch.nn.functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from distdl.profiling.counting.rules import FUNCTIONS, OPERATORS, SHAPES
from distdl.profiling.counting.tracer import Tracer
from distdl.runtime.torch_private import composite_kernel


@contextmanager
def watched(tracer: Tracer) -> Iterator[None]:
    """Report modules that run in the block, calls of `FUNCTIONS`, and all other operators to `tracer`."""
    enter = register_module_forward_pre_hook(lambda module, _: tracer.enter(module))
    leave = register_module_forward_hook(lambda *_: tracer.leave(), always_call=True)
    operators = _OperatorMode(tracer)
    try:
        with operators, _FunctionMode(tracer, operators):
            yield
    finally:
        enter.remove()
        leave.remove()


class _FunctionMode(TorchFunctionMode):
    """Observes torch's functions before autograd decomposes them."""

    def __init__(self, tracer: Tracer, operators: "_OperatorMode") -> None:
        super().__init__()
        self.tracer, self.operators = tracer, operators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FUNCTIONS:
            with self.operators.silent():
                out = func(*args, **kwargs)
            self.tracer.function(func, out, args, kwargs)
            return out
        if func is F.multi_head_attention_forward:  # the only function of torch that calls some of FUNCTIONS
            with self:
                return _body(func)(*args, **kwargs)
        return func(*args, **kwargs)


class _OperatorMode(TorchDispatchMode):
    """Observes the other operators in the dispatcher."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes three seconds

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer
        self._silent = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Do not report the operators in the block: the function that contains them is reported."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._silent:
            return func(*args, **kwargs)
        name = str(func._overloadpacket)
        if shapes := SHAPES.get(name):
            out = shapes(*args)
        elif name not in OPERATORS and (kernel := composite_kernel(func)):
            # Under inference_mode composite operators are not decomposed by autograd: do it here.
            with self:
                return kernel(*args, **kwargs)
        else:
            out = func(*args, **kwargs)
        self.tracer.operator(func, out, args, kwargs)
        return out


def _body(function: FunctionType) -> FunctionType:
    """Return `function` without its check for active modes, so that the mode observes the functions that it calls."""
    checks = [name for name in function.__globals__ if name.startswith("has_torch_function")]
    namespace = {**function.__globals__, **dict.fromkeys(checks, lambda *_: False)}
    copy = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
