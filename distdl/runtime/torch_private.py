"""Keep torch from importing its compiler where nothing is compiled.

torch shields functions of its own from a compiler that may be tracing, and imports the compiler, torch._dynamo, at the
first call of one: of an optimizer's step, of most operators on the meta device. That takes three seconds on two cores,
more than all else between `import torch` and a run's first step. With no compiler in the process none is tracing.
"""

import gc
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

SHIELD = torch._disable_dynamo(lambda: None).__code__
"""Of every function that `torch._disable_dynamo` returns: by it they are known (torch/_compile.py)."""


@contextmanager
def eager_operators() -> Iterator[None]:
    """Under it torch's shielded functions are called as they are, but where the compiler is loaded already."""
    plain = [] if "torch._dynamo" in sys.modules else list(_shielded())
    for function in plain:
        setattr(function, "__dynamo_disable", function)
    try:
        yield
    finally:
        for function in plain:
            delattr(function, "__dynamo_disable")


def _shielded() -> Iterator[Callable]:
    """What stands behind each shield of this process. torch keeps the shielded form on the function itself."""
    place = SHIELD.co_freevars.index("fn")
    for shield in gc.get_referrers(SHIELD):
        if isinstance(shield, types.FunctionType):
            function = shield.__closure__[place].cell_contents
            if not hasattr(function, "__dynamo_disable"):
                yield function


def eager(optimizer: Optimizer) -> Optimizer:
    """`optimizer`, its step the algorithm itself and its other methods without shield.

    torch's own wrapper of `step` puts gradients off, as this does, and breaks the compiler's graph. Hooks are kept.
    """
    algorithm = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    optimizer.step = types.MethodType(Optimizer.profile_hook_step(algorithm), optimizer)
    for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group"):
        method = inspect.getattr_static(type(optimizer), name)
        if getattr(method, "__code__", None) is SHIELD:
            setattr(optimizer, name, types.MethodType(method.__wrapped__, optimizer))
    return optimizer
