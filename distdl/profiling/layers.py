"""Time the layers of a network: each operator of a real step, forward and backward, by the layer that runs it.

Timing a layer from outside costs a synchronization or a hook per layer, and the sum of the layers then exceeds the
whole (Lu et al. 2017, Tables 2 to 6). Here an operator is timed when it reaches the device, with its real arguments,
and the cost of an empty measurement is subtracted. On a GPU short operators are repeated inside one measurement; on a
CPU, whose clock is precise enough, they are not, because the second run would find all its data in the cache.
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

from distdl.profiling.timing import Seconds, TrainingStep, interleaved
from distdl.runtime.torch_private import backward_node, forward_node

LONG_ENOUGH_S = 5e-4
"""An operator of a GPU is repeated until its measurement takes this long, so that the cost of its events is small."""
MOST_REPEATS = 50
OUTSIDE = "(gradients)"
"""The name of backward operators that belong to no layer: sums of gradients where the graph branches."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network's times at one batch size on one device: medians of the rounds."""

    layers: dict[str, Seconds]
    """By module name, in the order in which they first run; operators between modules as "(operator)"."""
    naive: dict[str, Seconds]
    """The same by the host's clock, once, with a synchronization before and after each operator: for comparison."""
    total: Seconds
    """Whole passes, with nothing in between."""

    @property
    def layer_sum(self) -> Seconds:
        return sum(self.layers.values(), Seconds())

    @property
    def naive_sum(self) -> Seconds:
        return sum(self.naive.values(), Seconds())


def measure(model: nn.Module, inputs: Tensor, *, rounds: int = 3, naive: bool = True) -> Measured:
    """Time `model` at `inputs`, both on the device to measure, in training mode; its gradients are discarded.

    Args:
        rounds: each takes one whole step, one by operator and, with `naive`, one by operator the naive way.
    """
    step = TrainingStep(model.train(), inputs)
    step.run()  # allocations, kernels chosen and compiled
    first = OperatorTimer(step).collect() if step.timer.cuda else []
    repeats = [min(MOST_REPEATS, max(1, round(LONG_ENOUGH_S / max(call.seconds, 1e-9)))) for call in first]
    passes = {
        "total": lambda: {"": (step.run(), step.run())[1]},  # a step that follows another, as in a training
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
    """Times each operator of a step as it reaches the device, with the name of the module that it belongs to.

    In backward that is the module that made the graph's node, identified by the node's sequence number.
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
        # A network with stochastic depth may run more operators than when the repeats were chosen.
        repeats = self._repeats[len(self._spans)] if len(self._spans) < len(self._repeats) else 1
        if func._schema.is_mutable and repeats > 1:
            # An operator that writes to its arguments is repeated on copies, then runs once for its effect.
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
            # The operator's own node has just been made; an operator that made none must not take its neighbour's.
            self._nodes.setdefault(forward_node(), layer)
            return layer
        node = backward_node()
        return OUTSIDE if node is None else self._nodes.get(node, OUTSIDE)


def _is_view(func: Any) -> bool:
    """Whether an operator only makes another view of its argument, which takes no time on the device."""
    schema = func._schema
    aliases = any(result.alias_info is not None for result in schema.returns)
    return (aliases and not schema.is_mutable) or schema.name == "aten::detach"


def _by_layer(operators: Sequence[OperatorCall]) -> dict[str, Seconds]:
    layers: dict[str, Seconds] = defaultdict(Seconds)
    for call in operators:
        layers[call.layer] += Seconds(backward_s=call.seconds) if call.backward else Seconds(forward_s=call.seconds)
    return dict(layers)
