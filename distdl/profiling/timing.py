"""Time whole steps of a network, and measure the compute and memory throughput of a device."""

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
"""Maximum duration in seconds of a matrix product with which the throughput of a device is measured."""
DISTURBED = 0.1
"""Maximum number of cores that other processes may use during a measurement on the CPU."""
TRIES = 4
"""Maximum number of attempts if other processes disturb a measurement."""


@dataclass(frozen=True, kw_only=True)
class PassTimes:
    """Time of a forward and of a backward pass."""

    forward_s: float = 0.0
    backward_s: float = 0.0

    @property
    def step_s(self) -> float:
        """Time of both passes."""
        return self.forward_s + self.backward_s

    def __add__(self, other: "PassTimes") -> "PassTimes":
        return PassTimes(forward_s=self.forward_s + other.forward_s, backward_s=self.backward_s + other.backward_s)


def total(model: nn.Module, inputs: Tensor, *, rounds: int = 5) -> PassTimes:
    """Measure whole passes without instrumentation: the median of the rounds, after one for warm-up."""
    step = TrainingStep(model.train(), inputs)
    step.run()
    return interleaved({"total": lambda: {"": step.run()}}, rounds, step.timer)["total"][""]


Round = dict[str, PassTimes]
R = TypeVar("R")


def interleaved(passes: Mapping[str, Callable[[], Round]], rounds: int, timer: "Timer") -> dict[str, Round]:
    """Return medians of `rounds` rounds of each pass, in the order A B C A B C ..., so that drift affects all passes.

    On a CPU, passes that other processes disturbed are repeated; after `TRIES` attempts, the least disturbed are used.
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


def _with_disturbance(run: Callable[[], R], timer: "Timer") -> tuple[float, R]:
    """Return the number of cores that other processes used during `run`, and the result of `run`."""
    if timer.cuda:
        return 0.0, run()
    others_s, start = _other_processes_s(), time.perf_counter()
    result = run()
    return (_other_processes_s() - others_s) / (time.perf_counter() - start), result


def _other_processes_s() -> float:
    """Return the core-seconds used so far by all processes except this one."""
    busy, own_times = psutil.cpu_times(), psutil.Process().cpu_times()
    others_s = sum(busy) - busy.idle - getattr(busy, "iowait", 0.0) - getattr(busy, "guest", 0.0)
    return others_s - own_times.user - own_times.system


def _median(rounds: Sequence[dict[str, PassTimes]]) -> dict[str, PassTimes]:
    return {
        name: PassTimes(
            forward_s=statistics.median(times[name].forward_s for times in rounds),
            backward_s=statistics.median(times[name].backward_s for times in rounds),
        )
        for name in (rounds[0] if rounds else ())
    }


class Timer:
    """Timestamps of a device: perf_counter on the CPU, CUDA events on a GPU, which are read after they completed."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.device = device
        self.empty_s = statistics.median(self.read(self.span(lambda: None)) for _ in range(101))

    def now(self) -> Any:
        """Return a timestamp of the device."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def span(self, work: Callable[[], object], repeats: int = 1) -> tuple[Any, Any]:
        """Run `work` `repeats` times, and return the timestamps before and after."""
        start = self.now()
        for _ in range(repeats):
            work()
        return start, self.now()

    def read(self, span: tuple[Any, Any]) -> float:
        """Return the seconds of a span, after waiting for the device."""
        start, end = span
        if isinstance(start, float):
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def wait(self) -> None:
        """Wait until the device is idle."""
        if self.cuda:
            torch.cuda.synchronize(self.device)


class TrainingStep:
    """Forward and backward pass of one batch."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        if inputs.device.type == "cpu":
            keep_freed()  # as a training does
        self.model, self.inputs, self.timer = model, inputs, Timer(inputs.device)
        self.names = {module: name for name, module in model.named_modules()}

    def forward(self) -> Tensor:
        """Run the forward pass, and return the outputs of all heads as one tensor."""
        self.model.zero_grad(set_to_none=True)
        out = self.model(self.inputs)
        # Auxiliary heads of torchvision's networks are trained too.
        return out if isinstance(out, Tensor) else torch.cat([part for part in out if part is not None])

    def run(self) -> PassTimes:
        """Run both passes, and return their times."""
        self.timer.wait()
        start = self.timer.now()
        out = self.forward()
        between = self.timer.now()
        out.backward(torch.ones_like(out))
        end = self.timer.now()
        spans = PassTimes(forward_s=self.timer.read((start, between)), backward_s=self.timer.read((between, end)))
        self.model.zero_grad(set_to_none=True)
        return spans


def _direct_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers of a module itself, without submodules, including repeated ones."""
    return [
        *module.named_parameters(recurse=False, remove_duplicate=False),
        *module.named_buffers(recurse=False, remove_duplicate=False),
    ]


def with_weights(model: nn.Module, device: torch.device) -> nn.Module:
    """Move `model` to `device`. Tensors on the meta device get random values there that keep activations finite.

    Values matter for timing: a CPU is much slower with denormal and infinite values.
    """
    created: dict[int, Tensor] = {}

    def materialized(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in created:  # shared weights stay shared
            values = torch.ones(tensor.shape, dtype=tensor.dtype, device=device)
            if tensor.dim() > 1 and tensor.is_floating_point():
                torch.nn.init.normal_(values, std=tensor[0].numel() ** -0.5)
            is_parameter = isinstance(tensor, nn.Parameter)
            created[id(tensor)] = nn.Parameter(values, tensor.requires_grad) if is_parameter else values
        return created[id(tensor)]

    for module in model.modules():
        for name, tensor in _direct_tensors(module):
            setattr(module, name, materialized(tensor))
    return model.to(device)


def ceilings(device: torch.device, precision: str) -> tuple[float, float]:
    """Measure the FLOP/s of a large product and the bytes/s of a large copy: the best of several measurements.

    The measurement is repeated if other processes were busy. The product is a matrix product or a convolution,
    whichever is faster: on some processors the library's matrix product uses only narrow instructions.

    Args:
        precision: fp16 and bf16 use these types, others fp32.
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
        """Return the FLOP/s of the best size; sizes are doubled up to `largest`."""
        best = 0.0
        while True:
            flops, work = make(size)
            elapsed_s = fastest_s(work, 2)
            best = max(best, flops / min(elapsed_s, fastest_s(work, 8) if 8 * elapsed_s < BRIEF_S else elapsed_s))
            # A precision without native instructions may be emulated, a thousand times slower.
            if size >= largest or 16 * elapsed_s > BRIEF_S:
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
