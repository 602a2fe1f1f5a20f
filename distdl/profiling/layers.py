"""Time the layers of a network: each operator of a real step, forward and backward, by the layer that runs it.

Timing layers from outside costs a synchronization or a hook per layer, and the sum of the layers then exceeds the total
(Lu et al. 2017, Tables 2 to 6). Here each operator is timed in the dispatcher with its real arguments, and the cost of
an empty measurement is subtracted. On a GPU short operators are repeated within one measurement. On a CPU the clock is
precise enough, and a repetition would find all its data in the cache.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from distdl.profiling.timing import PassTimes, TrainingStep, interleaved
from distdl.runtime.torch_private import backward_node, forward_node

LONG_ENOUGH_S = 5e-4
"""Minimum duration of a measurement on a GPU in seconds: shorter operators are repeated, so that events cost little."""
MOST_REPEATS = 50
OUTSIDE = "(gradients)"
"""Name of backward operators that belong to no layer: sums of gradients at branches of the graph."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Times of a network at one batch size on one device: medians of the rounds."""

    layers: dict[str, PassTimes]
    """Time by module name, in execution order; operators outside of modules as "(operator)"."""
    naive: dict[str, PassTimes]
    """The same for comparison, by the host's clock with a synchronization before and after each operator."""
    total: PassTimes
    """Time of whole passes without instrumentation."""

    @property
    def layer_sum(self) -> PassTimes:
        """Sum of `layers`."""
        return sum(self.layers.values(), PassTimes())

    @property
    def naive_sum(self) -> PassTimes:
        """Sum of `naive`."""
        return sum(self.naive.values(), PassTimes())


def measure(model: nn.Module, inputs: Tensor, *, rounds: int = 3, naive: bool = True) -> Measured:
    """Time `model` with `inputs` in training mode, on the device of both. Gradients are discarded.

    Args:
        rounds: number of rounds. Each has a whole step, a step timed by operator and, with `naive`, another one timed
            with synchronization.
    """
    step = TrainingStep(model.train(), inputs)
    step.run()  # warm-up: allocations, selection and compilation of kernels
    first = OperatorTimer(step).collect() if step.timer.cuda else []
    repeats = [min(MOST_REPEATS, max(1, round(LONG_ENOUGH_S / max(call.seconds, 1e-9)))) for call in first]
    passes = {
        "total": lambda: {"": (step.run(), step.run())[1]},  # the second of two steps, as in a training
        "layers": lambda: _by_layer(OperatorTimer(step, repeats=repeats).collect()),
        "naive": lambda: _by_layer(OperatorTimer(step, naive=True).collect()),
    }
    times = interleaved(passes if naive else {name: passes[name] for name in ("total", "layers")}, rounds, step.timer)
    return Measured(layers=times["layers"], naive=times.get("naive", {}), total=times["total"][""])


@dataclass(frozen=True)
class OperatorCall:
    """One call of an operator."""

    layer: str
    backward: bool
    seconds: float


class OperatorTimer(TorchDispatchMode):
    """Times each operator of a step in the dispatcher, together with the name of its module.

    In backward this is the module that created the node of the graph, identified by the node's sequence number.
    """

    def __init__(self, step: TrainingStep, *, repeats: Sequence[int] = (), naive: bool = False) -> None:
        super().__init__()
        self.step, self.timer = step, step.timer
        self._repeats, self._naive = repeats, naive
        self._stack = [""]
        self._nodes: dict[int, str] = {}
        self._spans: list[tuple[str, bool, tuple[Any, Any], int]] = []
        self._in_backward = False

    def collect(self) -> list[OperatorCall]:
        """Run one step, and return the time of each operator call in order."""
        self.timer.wait()
        with self._modules(), self:
            out = self.step.forward()
            self._in_backward = True
            out.backward(torch.ones_like(out))
        self.step.model.zero_grad(set_to_none=True)
        empty_s = 0.0 if self._naive else self.timer.empty_s
        return [
            OperatorCall(layer, backward, max(self.timer.read(span) - empty_s, 0.0) / repeats)
            for layer, backward, span, repeats in self._spans
        ]

    @contextmanager
    def _modules(self) -> Iterator[None]:
        enter = register_module_forward_pre_hook(
            lambda m, _: self._stack.append(self.step.names.get(m, self._stack[-1]))
        )
        leave = register_module_forward_hook(lambda *_: self._leave(), always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()

    def _leave(self) -> None:
        self._stack.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_view(func):
            return func(*args, **kwargs)
        if self._naive:
            return self._once(func, args, kwargs)
        # A network with stochastic depth may run more operators than when the numbers of repeats were determined.
        repeats = self._repeats[len(self._spans)] if len(self._spans) < len(self._repeats) else 1
        if func._schema.is_mutable and repeats > 1:
            # An operator that modifies its arguments is repeated on copies, then runs once for its effect.
            copies, named = tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, (args, kwargs))
            span = self.timer.span(lambda: func(*copies, **named), repeats)
            out = func(*args, **kwargs)
        else:
            out = None

            def work() -> None:
                nonlocal out
                out = func(*args, **kwargs)

            span = self.timer.span(work, repeats)
        self._spans.append((self._layer(func), self._in_backward, span, repeats))
        return out

    def _once(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.timer.wait()
        start = time.perf_counter()
        out = func(*args, **kwargs)
        self.timer.wait()
        self._spans.append((self._layer(func), self._in_backward, (start, time.perf_counter()), 1))
        return out

    def _layer(self, func: Any) -> str:
        if not self._in_backward:
            layer = self._stack[-1] or f"({func._schema.name.rpartition('::')[2]})"
            # The operator's node has just been created; setdefault, since an operator without a node must not replace
            # the layer of the previous one.
            self._nodes.setdefault(forward_node(), layer)
            return layer
        node = backward_node()
        return OUTSIDE if node is None else self._nodes.get(node, OUTSIDE)


def _is_view(func: Any) -> bool:
    """Whether an operator only creates a view of its argument, which takes no time on the device."""
    schema = func._schema
    aliases = any(result.alias_info is not None for result in schema.returns)
    return (aliases and not schema.is_mutable) or schema.name == "aten::detach"


def _by_layer(operators: Sequence[OperatorCall]) -> dict[str, PassTimes]:
    layers: dict[str, PassTimes] = defaultdict(PassTimes)
    for call in operators:
        layers[call.layer] += PassTimes(backward_s=call.seconds) if call.backward else PassTimes(forward_s=call.seconds)
    return dict(layers)
