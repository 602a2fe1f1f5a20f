"""Measures where a network's time goes: each operator of a real step, forward and backward, by the layer it belongs to.

Timing a layer from outside costs a synchronisation or a hook a layer, and the sum of the layers then exceeds the
whole (Lu et al. 2017, Tables 2 to 6). Here an operator is timed where it runs, with its real arguments, as it reaches
the device, and the cost of an empty measurement is subtracted. On a GPU short ones are repeated inside one measurement;
on a CPU, whose clock is fine enough, they are not, for the second time they would find all they need in the cache.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from distdl.runtime.memory import keep_freed

LONG_ENOUGH_S = 5e-4
"""An operator of a GPU is repeated until its measurement takes this long, beside which its events are short."""
MOST_REPEATS = 50
BRIEF_S = 0.3
"""A matrix product that measures a ceiling takes no longer."""
DISTURBED = 0.1
"""Cores that other processes may keep busy during a measurement on the CPU."""
TRIES = 4
"""How often a disturbed measurement is made again."""
OUTSIDE = "(gradients)"
"""The name of what backward does between layers: adding up gradients where the graph joins."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Time of a forward and of a backward pass."""

    forward_s: float = 0.0
    backward_s: float = 0.0

    @property
    def step_s(self) -> float:
        return self.forward_s + self.backward_s

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(forward_s=self.forward_s + other.forward_s, backward_s=self.backward_s + other.backward_s)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network's times at one batch on one device: medians of the rounds."""

    layers: dict[str, Seconds]
    """By module name, in the order in which they first run; operators between modules as "(operator)"."""
    naive: dict[str, Seconds]
    """The same by the host's clock, once, with a synchronisation before and after each operator: what not to do."""
    total: Seconds
    """Whole passes, nothing in between."""

    @property
    def layer_sum(self) -> Seconds:
        return sum(self.layers.values(), Seconds())

    @property
    def naive_sum(self) -> Seconds:
        return sum(self.naive.values(), Seconds())


def measure(model: nn.Module, inputs: Tensor, *, rounds: int = 3, naive: bool = True) -> Measured:
    """Time `model` at `inputs`, both on the device to measure; the model trains, its gradients are discarded.

    Args:
        rounds: each takes one whole step, one by operator and, with `naive`, one by operator the naive way.
    """
    step = _Step(model.train(), inputs)
    step.run()  # allocations, kernels chosen and compiled
    plan = _Operators(step).collect() if step.timer.cuda else []
    repeats = [min(MOST_REPEATS, max(1, round(LONG_ENOUGH_S / max(one.seconds, 1e-9)))) for one in plan]
    passes = {
        "total": lambda: {"": (step.run(), step.run())[1]},  # one that follows another, as in a training
        "layers": lambda: _by_layer(_Operators(step, repeats=repeats).collect()),
        "naive": lambda: _by_layer(_Operators(step, naive=True).collect()),
    }
    found = _interleaved(passes if naive else {name: passes[name] for name in ("total", "layers")}, rounds, step)
    return Measured(layers=found["layers"], naive=found.get("naive", {}), total=found["total"][""])


def total(model: nn.Module, inputs: Tensor, *, rounds: int = 5) -> Seconds:
    """Time of whole passes alone: the median of the rounds, after one that warms up."""
    step = _Step(model.train(), inputs)
    step.run()
    return _interleaved({"total": lambda: {"": step.run()}}, rounds, step)["total"][""]


Round = dict[str, Seconds]
Found = TypeVar("Found")


def _interleaved(passes: Mapping[str, Callable[[], Round]], rounds: int, step: "_Step") -> dict[str, Round]:
    """Medians of `rounds` rounds of each pass, A B C A B C ..., so that a machine that drifts drifts for all.

    On a CPU, a pass during which other processes ran does not count; where they never rest, the calmest do.
    """
    found: dict[str, list[tuple[float, Round]]] = {name: [] for name in passes}

    def calm(name: str) -> list[Round]:
        return [one for disturbed, one in found[name] if disturbed <= DISTURBED]

    for _ in range(rounds * TRIES):
        for name, run in passes.items():
            if len(calm(name)) < rounds:
                found[name].append(_watched(run, step.timer))
        if all(len(calm(name)) >= rounds for name in passes):
            break
    return {
        name: _median([one for _, one in sorted(tried, key=lambda one: one[0])[:rounds]])
        for name, tried in found.items()
    }


def _watched(run: Callable[[], Found], timer: "_Timer") -> tuple[float, Found]:
    """(cores that other processes kept busy meanwhile, what `run` found)."""
    if timer.cuda:
        return 0.0, run()
    before, start = _others_s(), time.perf_counter()
    found = run()
    return (_others_s() - before) / (time.perf_counter() - start), found


def _others_s() -> float:
    """Core-seconds of all processes but this one, so far."""
    import psutil

    busy, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return sum(busy) - busy.idle - getattr(busy, "iowait", 0.0) - getattr(busy, "guest", 0.0) - own.user - own.system


def _median(rounds: Sequence[dict[str, Seconds]]) -> dict[str, Seconds]:
    return {
        name: Seconds(
            forward_s=statistics.median(one[name].forward_s for one in rounds),
            backward_s=statistics.median(one[name].backward_s for one in rounds),
        )
        for name in (rounds[0] if rounds else ())
    }


class _Timer:
    """Moments of a device: perf_counter on the CPU, events on a GPU, read once the device has passed them."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.device = device
        self.empty_s = statistics.median(self.read(self.span(lambda: None)) for _ in range(101))

    def now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def span(self, work: Callable[[], object], repeats: int = 1) -> tuple[Any, Any]:
        start = self.now()
        for _ in range(repeats):
            work()
        return start, self.now()

    def read(self, span: tuple[Any, Any]) -> float:
        """Seconds of a span; waits for the device."""
        start, end = span
        if isinstance(start, float):
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


class _Step:
    """Forward and backward of one batch."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        if inputs.device.type == "cpu":
            keep_freed()  # as a training has it
        self.model, self.inputs, self.timer = model, inputs, _Timer(inputs.device)
        self.names = {module: name for name, module in model.named_modules()}

    def forward(self) -> Tensor:
        self.model.zero_grad(set_to_none=True)
        out = self.model(self.inputs)
        # Auxiliary heads of torchvision's networks train too.
        return out if isinstance(out, Tensor) else torch.cat([part for part in out if part is not None])

    def run(self) -> Seconds:
        self.timer.wait()
        start = self.timer.now()
        out = self.forward()
        between = self.timer.now()
        out.backward(torch.ones_like(out))
        end = self.timer.now()
        spans = Seconds(forward_s=self.timer.read((start, between)), backward_s=self.timer.read((between, end)))
        self.model.zero_grad(set_to_none=True)
        return spans


@dataclass(frozen=True)
class _Operator:
    """One call of an operator."""

    layer: str
    backward: bool
    seconds: float


class _Operators(TorchDispatchMode):
    """Times each operator of a step as it reaches the device, and knows the module that it works for.

    In backward that is the module that made the node of the graph, which is found by the node's sequence number.
    """

    def __init__(self, step: _Step, *, repeats: Sequence[int] = (), naive: bool = False) -> None:
        super().__init__()
        self.step, self.timer = step, step.timer
        self._repeats, self._naive = repeats, naive
        self._stack = [""]
        self._nodes: dict[int, str] = {}
        self._spans: list[tuple[str, bool, tuple[Any, Any], int]] = []
        self._in_backward = False

    def collect(self) -> list[_Operator]:
        self.timer.wait()
        with self._modules(), self:
            out = self.step.forward()
            self._in_backward = True
            out.backward(torch.ones_like(out))
        self.step.model.zero_grad(set_to_none=True)
        empty_s = 0.0 if self._naive else self.timer.empty_s
        return [
            _Operator(layer, backward, max(self.timer.read(span) - empty_s, 0.0) / repeats)
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
        if _free(func):
            return func(*args, **kwargs)
        if self._naive:
            return self._once(func, args, kwargs)
        # A network that drops layers at random may run more operators than when the repeats were chosen.
        repeats = self._repeats[len(self._spans)] if len(self._spans) < len(self._repeats) else 1
        if func._schema.is_mutable and repeats > 1:
            # What writes to its arguments is repeated on copies, then runs once for its effect.
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
            self._nodes.setdefault(torch.autograd._get_sequence_nr() - 1, layer)
            return layer
        node = torch._C._current_autograd_node()
        return self._nodes.get(node._sequence_nr(), OUTSIDE) if node is not None else OUTSIDE


_FREE: dict[Any, bool] = {}


def _free(func: Any) -> bool:
    """Whether an operator only makes another view of its argument."""
    if func not in _FREE:
        schema = func._schema
        aliases = any(result.alias_info is not None for result in schema.returns)
        _FREE[func] = (aliases and not schema.is_mutable) or schema.name == "aten::detach"
    return _FREE[func]


def _by_layer(operators: Sequence[_Operator]) -> dict[str, Seconds]:
    layers: dict[str, Seconds] = defaultdict(Seconds)
    for one in operators:
        layers[one.layer] += Seconds(backward_s=one.seconds) if one.backward else Seconds(forward_s=one.seconds)
    return dict(layers)


def with_weights(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`, what it has on the meta device made there: random weights that keep values finite.

    Values matter to time: a CPU computes with denormal and infinite ones at a fraction of its speed.
    """
    made: dict[int, Tensor] = {}

    def real(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in made:  # shared weights stay shared
            values = torch.ones(tensor.shape, dtype=tensor.dtype, device=device)
            if tensor.dim() > 1 and tensor.is_floating_point():
                torch.nn.init.normal_(values, std=tensor[0].numel() ** -0.5)
            needs = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(values, tensor.requires_grad) if needs else values
        return made[id(tensor)]

    for module in model.modules():
        for own in (module._parameters, module._buffers):
            own.update({name: real(tensor) for name, tensor in own.items() if tensor is not None})
    return model.to(device)


def ceilings(device: torch.device, precision: str) -> tuple[float, float]:
    """(FLOP/s of a large product, bytes/s of a large copy), the best of several: what the device itself can do.

    Measured again where other processes were busy meanwhile.

    A product is one of matrices or a convolution, whichever is the faster: libraries differ, and on some processors the
    one for matrices keeps to narrow instructions. fp16 and bf16 are those types, tf32 is fp32 with the tensor cores'
    permission.
    """
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    timer = _Timer(device)
    flops_per_s = bytes_per_s = 0.0
    for _ in range(TRIES):
        disturbed, found = _watched(lambda: _ceilings(device, dtype, timer), timer)
        flops_per_s, bytes_per_s = max(flops_per_s, found[0]), max(bytes_per_s, found[1])
        if disturbed <= DISTURBED:
            break
    return flops_per_s, bytes_per_s


def _ceilings(device: torch.device, dtype: torch.dtype, timer: "_Timer") -> tuple[float, float]:
    def fastest_s(work: Callable[[], object], tries: int) -> float:
        return min(timer.read(timer.span(work)) for _ in range(tries))

    def rate(make: Callable[[int], tuple[int, Callable[[], object]]], size: int, largest: int) -> float:
        """FLOP/s of the best of the sizes up to `largest`, each twice the one before."""
        best = 0.0
        while True:
            flops, work = make(size)
            spent_s = fastest_s(work, 2)
            best = max(best, flops / min(spent_s, fastest_s(work, 8) if 8 * spent_s < BRIEF_S else spent_s))
            # A processor may compute a precision that it has no instructions for, a thousand times slower.
            if size >= largest or 16 * spent_s > BRIEF_S:
                return best
            size *= 2

    def product(side: int) -> tuple[int, Callable[[], object]]:
        a, b = (torch.randn(side, side).to(device, dtype) for _ in range(2))
        return 2 * side**3, lambda: a @ b

    def convolution(channels: int) -> tuple[int, Callable[[], object]]:
        batch, side = (64, 56) if device.type == "cuda" else (4, 28)
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        images = torch.randn(batch, channels, side, side).to(device, dtype, memory_format=layout)
        kernel = torch.randn(channels, channels, 3, 3).to(device, dtype, memory_format=layout)
        return 2 * batch * (channels * 3 * side) ** 2, lambda: torch.conv2d(images, kernel, padding=1)

    cuda = device.type == "cuda"
    with torch.no_grad():
        flops_per_s = max(rate(product, 256, 8192 if cuda else 2048), rate(convolution, 64, 512))
    length = 2**28 if cuda else 2**25
    source = torch.ones(length, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return flops_per_s, 2 * 4 * length / fastest_s(lambda: target.copy_(source), 8)
