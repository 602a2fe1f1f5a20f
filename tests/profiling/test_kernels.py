"""Time in kernels, compared with a known time outside of kernels."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity

from distdl.profiling import kernels
from distdl.profiling.kernels import KernelProfile, covered, kind_of
from gpu_fake import CUDA, simulate_gpu
from simulated_time import simulate_time


def test_union_of_intervals():
    assert covered([]) == 0
    assert covered([(5, 7), (0, 2), (1, 3), (1, 1.5)]) == 5


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mkldnn_convolution", "conv"),
        ("aten::convolution_backward", "conv"),
        ("aten::addmm", "dense"),
        ("aten::mm", "dense"),
        ("aten::bmm", "dense"),
        ("aten::native_batch_norm_backward", "norm"),
        ("aten::max_pool2d_with_indices", "pool"),
        ("aten::_foreach_add_", "optimizer"),
        ("aten::threshold_backward", "activation"),
        ("aten::_scaled_dot_product_flash_attention", "attention"),
        ("aten::mkldnn_rnn_layer", "recurrent"),
        ("aten::copy_", "elementwise"),
    ],
)
def test_kind_of_an_operator(operator, kind):
    assert kind_of(operator) == kind


def test_time_between_kernels_is_not_in_kernels(tmp_path, monkeypatch):
    clock = simulate_time(monkeypatch, kernels)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(10)
    )
    images = torch.randn(8, 3, 32, 32)
    network(images).sum().backward()
    profile = KernelProfile(torch.device("cpu"))
    for _ in range(3):
        network(images).sum().backward()
        clock.advance(3600)
    summary = profile.stop(3, tmp_path / "trace.json")
    assert summary["step_s"] == 3600
    assert 0 < summary["kernel_s"] < 3600
    assert {"conv", "dense", "activation"} <= set(summary["by_kind_s"])
    # operators call operators: their self times add up to the time in which any of them ran
    assert sum(summary["by_kind_s"].values()) == pytest.approx(summary["kernel_s"], rel=0.1)
    assert any(
        event.get("name") == "aten::conv2d"
        for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    )


def event(name: str, start: float, end: float, device: str = "CUDA", annotation: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        name=name,
        device_type=SimpleNamespace(name=device),
        is_user_annotation=annotation,
        time_range=SimpleNamespace(start=start, end=end),
    )


def average(name: str, device: str, device_us: float, cpu_us: float) -> SimpleNamespace:
    kind = SimpleNamespace(name=device)
    return SimpleNamespace(key=name, device_type=kind, self_device_time_total=device_us, self_cpu_time_total=cpu_us)


class Recording:
    """Replaces torch.profiler.profile: 4 ms of kernels of two steps, in microseconds."""

    def __init__(self, activities: list[ProfilerActivity]) -> None:
        self.activities = activities

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def events(self) -> list[SimpleNamespace]:
        return [
            event("gemm", 0, 3000),
            event("gemm", 2000, 4000),
            event("aten::mm", 0, 90_000, device="CPU"),
            event("ProfilerStep#1", 0, 90_000),
            event("forward", 0, 90_000, annotation=True),
            event("Memcpy HtoD (Pinned -> Device)", 9000, 10_000),
            event("ncclDevKernel_AllReduce", 10_000, 11_000),
        ]

    def key_averages(self) -> list[SimpleNamespace]:
        return [average("aten::mm", "CPU", 5000, 7000), average("gemm", "CUDA", 5000, 0)]


@pytest.mark.parametrize(
    ("device", "kernel_s", "dense_s", "waits"), [(CUDA, 0.002, 0.0025, 2), (torch.device("cpu"), 0.045, 0.0035, 0)]
)
def test_kernels_of_a_gpu_are_counted_once_without_copies_and_exchange(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, kernel_s: float, dense_s: float, waits: int
) -> None:
    gpu = simulate_gpu(monkeypatch)
    monkeypatch.setattr(kernels, "profile", Recording)
    profile = KernelProfile(device)
    assert (ProfilerActivity.CUDA in profile._profile.activities) is (device == CUDA)
    summary = profile.stop(2)
    assert gpu.waits == waits
    assert (summary["kernel_s"], summary["by_kind_s"]) == (kernel_s, {"dense": dense_s})
