"""Time whole steps of a network, and measure the rates that a device reaches."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, nn

from distdl.runtime.memory import keep_freed

BRIEF_S = 0.3
"""Longest matrix product used to measure the rate of a device, in seconds."""
DISTURBED = 0.1
"""Number of cores that other processes may use during a measurement on the CPU."""
TRIES = 4
"""Number of attempts if other processes disturb a measurement."""


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


def total(model: nn.Module, inputs: Tensor, *, rounds: int = 5) -> Seconds:
    """Time of whole passes alone: the median of the rounds, after one that warms up."""
    step = TrainingStep(model.train(), inputs)
    step.run()
    return interleaved({"total": lambda: {"": step.run()}}, rounds, step.timer)["total"][""]


Round = dict[str, Seconds]
Result = TypeVar("Result")


def interleaved(passes: Mapping[str, Callable[[], Round]], rounds: int, timer: "Timer") -> dict[str, Round]:
    """Medians of `rounds` rounds of each pass, in the order A B C A B C ..., so that drift affects all passes.

    On a CPU, a pass during which other processes ran does not count; if they never pause, the least disturbed ones do.
    """
    attempts: dict[str, list[tuple[float, Round]]] = {name: [] for name in passes}

    def is_complete(name: str) -> bool:
        return sum(disturbance <= DISTURBED for disturbance, _ in attempts[name]) >= rounds

    for _ in range(rounds * TRIES):
        for name, run in passes.items():
            if not is_complete(name):
                attempts[name].append(_with_disturbance(run, timer))
        if all(map(is_complete, passes)):
            break
    return {
        name: _median([times for _, times in sorted(tried, key=lambda attempt: attempt[0])[:rounds]])
        for name, tried in attempts.items()
    }


def _with_disturbance(run: Callable[[], Result], timer: "Timer") -> tuple[float, Result]:
    """(number of cores that other processes used meanwhile, the result of `run`)."""
    if timer.cuda:
        return 0.0, run()
    others_s, start = _other_processes_s(), time.perf_counter()
    result = run()
    return (_other_processes_s() - others_s) / (time.perf_counter() - start), result


def _other_processes_s() -> float:
    """Core-seconds used so far by all processes except this one."""
    busy, this = psutil.cpu_times(), psutil.Process().cpu_times()
    return sum(busy) - busy.idle - getattr(busy, "iowait", 0.0) - getattr(busy, "guest", 0.0) - this.user - this.system


def _median(rounds: Sequence[dict[str, Seconds]]) -> dict[str, Seconds]:
    return {
        name: Seconds(
            forward_s=statistics.median(times[name].forward_s for times in rounds),
            backward_s=statistics.median(times[name].backward_s for times in rounds),
        )
        for name in (rounds[0] if rounds else ())
    }


class Timer:
    """Time stamps of a device: perf_counter on the CPU, events on a GPU, read when the device has passed them."""

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


class TrainingStep:
    """Forward and backward of one batch."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        if inputs.device.type == "cpu":
            keep_freed()  # as in a training
        self.model, self.inputs, self.timer = model, inputs, Timer(inputs.device)
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


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers that a module itself has, each under every name."""
    return [
        *module.named_parameters(recurse=False, remove_duplicate=False),
        *module.named_buffers(recurse=False, remove_duplicate=False),
    ]


def with_weights(model: nn.Module, device: torch.device) -> nn.Module:
    """Move `model` to `device`; tensors on the meta device are made there, with random weights that keep values finite.

    Values affect the time: a CPU computes with denormal and infinite ones at a fraction of its speed.
    """
    made: dict[int, Tensor] = {}

    def real(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in made:  # shared weights stay shared
            values = torch.ones(tensor.shape, dtype=tensor.dtype, device=device)
            if tensor.dim() > 1 and tensor.is_floating_point():
                torch.nn.init.normal_(values, std=tensor[0].numel() ** -0.5)
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(values, tensor.requires_grad) if is_parameter else values
        return made[id(tensor)]

    for module in model.modules():
        for name, tensor in _own_tensors(module):
            setattr(module, name, real(tensor))
    return model.to(device)


def ceilings(device: torch.device, precision: str) -> tuple[float, float]:
    """(FLOP/s of a large product, bytes/s of a large copy): the best of several measurements of the device.

    Repeated if other processes were busy meanwhile.

    The product is a matrix product or a convolution, whichever is faster: libraries differ, and on some processors the
    matrix product uses only narrow instructions. fp16 and bf16 are those types, tf32 is fp32 with tensor cores allowed.
    """
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    timer = Timer(device)
    flops_per_s = bytes_per_s = 0.0
    for _ in range(TRIES):
        disturbance, rates = _with_disturbance(lambda: _ceilings(device, dtype, timer), timer)
        flops_per_s, bytes_per_s = max(flops_per_s, rates[0]), max(bytes_per_s, rates[1])
        if disturbance <= DISTURBED:
            break
    return flops_per_s, bytes_per_s


def _ceilings(device: torch.device, dtype: torch.dtype, timer: "Timer") -> tuple[float, float]:
    def fastest_s(work: Callable[[], object], tries: int) -> float:
        return min(timer.read(timer.span(work)) for _ in range(tries))

    def rate(make: Callable[[int], tuple[int, Callable[[], object]]], size: int, largest: int) -> float:
        """FLOP/s of the best size; each is twice the previous one, up to `largest`."""
        best = 0.0
        while True:
            flops, work = make(size)
            spent_s = fastest_s(work, 2)
            best = max(best, flops / min(spent_s, fastest_s(work, 8) if 8 * spent_s < BRIEF_S else spent_s))
            # A precision without instructions of its own may be emulated, a thousand times slower.
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
