"""Time in kernels, in total and by kind of layer, from a few steps recorded by torch.profiler."""

import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "attention": r"attention",
    "recurrent": r"lstm|gru|rnn",
    "conv": r"conv",
    "dense": r"linear|addmm|::b?mm\b|matmul|gemm",
    "norm": r"norm",
    "pool": r"pool",
    "optimizer": r"_foreach|_fused|addcdiv|addcmul|optimizer",
    "activation": r"relu|clamp_min|threshold|gelu|silu|sigmoid|tanh|softmax|dropout|nll_loss|cross_entropy",
}
"""Pattern of operator names by kind of layer. The first match counts; other operators are elementwise or copies."""


class KernelProfile:
    """A torch.profiler recording that separates the time in kernels from the time between them."""

    def __init__(self, device: torch.device) -> None:
        # On a machine without a GPU, Kineto reports that on stderr.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.synchronize(device)
        self._device = device
        self._profile = profile(activities=activities)
        self._profile.start()
        self._began = time.perf_counter()

    def stop(self, steps: int, trace: Path | None = None) -> dict[str, Any]:
        """End the recording.

        Args:
            steps: number of recorded steps.
            trace: file for chrome://tracing or Perfetto, if it is to be written.
        Returns:
            steps; step_s, seconds per step; kernel_s and by_kind_s, seconds per step in kernels (on a CPU, in
            operators), without copies to the device and exchange. Recording slows the host, so that step_s is longer
            than without it.
        """
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        step_s = (time.perf_counter() - self._began) / steps
        self._profile.stop()
        if trace:
            with tempfile.TemporaryDirectory(prefix=".trace-", dir=trace.parent) as scratch:
                self._profile.export_chrome_trace(f"{scratch}/{trace.name}")
                Path(scratch, trace.name).replace(trace)
        on_gpu = self._device.type == "cuda"
        busy = [
            (event.time_range.start, event.time_range.end)
            for event in self._profile.events() or ()
            if (_is_kernel(event) if on_gpu else _is_operator(event.name))
        ]
        by_kind: dict[str, float] = defaultdict(float)
        for row in self._profile.key_averages():
            if on_gpu and row.device_type.name == "CPU":
                by_kind[kind_of(row.key)] += row.self_device_time_total / 1e6 / steps
            elif not on_gpu and _is_operator(row.key):
                by_kind[kind_of(row.key)] += row.self_cpu_time_total / 1e6 / steps
        return {
            "steps": steps,
            "step_s": step_s,
            "kernel_s": covered(busy) / 1e6 / steps,
            "by_kind_s": {kind: seconds for kind, seconds in sorted(by_kind.items()) if seconds},
        }


def kind_of(operator: str) -> str:
    """Return the kind of layer of an operator."""
    name = operator.lower()
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "elementwise")


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the total length of the union of intervals (start, end)."""
    total, covered_until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > covered_until:
            total += end - max(start, covered_until)
            covered_until = end
    return total


def _is_operator(name: str) -> bool:
    return name.startswith(("aten::", "mkldnn::", "Torch-Compiled Region", "CompiledFunction"))


def _is_kernel(event: Any) -> bool:
    # Annotations ("ProfilerStep", "Optimizer.step") appear on the device too, and cover gaps.
    if event.device_type.name != "CUDA" or getattr(event, "is_user_annotation", False):
        return False
    return not re.match(r"ProfilerStep|Optimizer\.|Memcpy HtoD|Memcpy PtoP|nccl", event.name)
