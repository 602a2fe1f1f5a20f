"""A simulated GPU: a stream whose work takes as long as a test says, its events, and tensors that claim to be on it.

Only the test lets the device finish its work, or code that waits for it; `waits` counts that.
"""

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)


class Gpu:
    """The stream of one GPU, in milliseconds of work."""

    def __init__(self) -> None:
        self.queued_ms = self.done_ms = 0.0
        self.waits = 0

    def queue(self, seconds: float) -> None:
        """Queue work that takes this long."""
        self.queued_ms += 1e3 * seconds

    def run(self, seconds: float) -> None:
        """Let the device work for this long."""
        self.done_ms = min(self.done_ms + 1e3 * seconds, self.queued_ms)

    def wait(self, *device: Any) -> None:
        """Wait for all queued work, as torch.cuda.synchronize and Stream.synchronize do."""
        self.waits += 1
        self.done_ms = self.queued_ms

    synchronize = wait

    def event(self, enable_timing: bool = False) -> "Event":
        assert enable_timing
        return Event(self)


class Event:
    """torch.cuda.Event(enable_timing=True)."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._at_ms = gpu, float("nan")

    def record(self) -> None:
        self._at_ms = self._gpu.queued_ms

    def query(self) -> bool:
        return self._at_ms <= self._gpu.done_ms

    def synchronize(self) -> None:
        self._gpu.waits += 1
        self._gpu.done_ms = max(self._gpu.done_ms, self._at_ms)

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds until `end`; both events must have completed."""
        assert self.query() and end.query()
        return end._at_ms - self._at_ms


class OnGpu(torch.Tensor):
    """A tensor that claims to be on the GPU. Reading it would wait for the device, and fails."""

    device = property(lambda self: CUDA)  # type: ignore[assignment]

    def item(self) -> Any:
        pytest.fail("a value was read from the GPU")

    __float__ = __bool__ = __int__ = item


def on_gpu(tensor: torch.Tensor) -> torch.Tensor:
    """The same values as a tensor that claims to be on the GPU."""
    return tensor.as_subclass(OnGpu)


class NewTensorsOnCpu(TorchFunctionMode):
    """Context in which new tensors of a GPU are made on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: value for name, value in (kwargs or {}).items() if value != CUDA}
        return func(*args, **kwargs)


def simulate_gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Put a simulated GPU in the place of torch's for one test."""
    gpu = Gpu()
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "synchronize", gpu.wait)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *device: gpu)
    return gpu
