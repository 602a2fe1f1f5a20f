"""Times of complete steps, generated weights, and the measured peak rates of a device."""

import pytest
import torch
from torch import nn

from distdl.profiling import timing
from distdl.profiling.timing import PassTimes, Timer, ceilings, interleaved, total, with_weights
from gpu_fake import CUDA, simulate_gpu
from simulated_time import simulate_time


def test_weights_are_generated_for_a_network_on_the_meta_device():
    model = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.Linear(512, 512)).to("meta")
    model[2].weight = model[0].weight
    network = with_weights(model, torch.device("cpu"))
    assert network[2].weight is network[0].weight
    out = network(torch.randn(8, 512))
    assert torch.isfinite(out).all() and 0.1 < out.std() < 10


def test_peak_rates_are_plausible():
    flops_per_s, bytes_per_s = ceilings(torch.device("cpu"), "fp32")
    assert 1e8 < flops_per_s < 1e14 and 1e7 < bytes_per_s < 1e12


def test_pass_times_add_up():
    assert PassTimes(forward_s=1, backward_s=2) + PassTimes(forward_s=3) == PassTimes(forward_s=4, backward_s=2)


def test_the_total_is_the_time_of_a_step(monkeypatch: pytest.MonkeyPatch):
    """A forward pass of 2 s and a backward pass of 3 s, on a processor without other programs."""
    clock = simulate_time(monkeypatch, timing)
    monkeypatch.setattr(timing, "_other_processes_s", lambda: 0.0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    model.register_forward_hook(lambda *_: clock.advance(2))
    model[2].bias.register_hook(lambda _: clock.advance(3))
    assert total(model, torch.randn(8, 64), rounds=2) == PassTimes(forward_s=2, backward_s=3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_disturbed_passes_are_repeated_and_the_median_of_the_others_counts(monkeypatch: pytest.MonkeyPatch):
    """Each pass takes 1 s; other programs use a core during passes 1 and 3."""
    clock = simulate_time(monkeypatch, timing)
    seconds, others_s, passes = [9.0, 1.0, 8.0, 2.0, 6.0], [0.0], []
    monkeypatch.setattr(timing, "_other_processes_s", lambda: others_s[0])

    def run() -> dict[str, PassTimes]:
        passes.append(seconds[len(passes)])
        others_s[0] += len(passes) in (1, 3)
        clock.advance(1)
        return {"": PassTimes(forward_s=passes[-1])}

    assert interleaved({"a": run}, 3, Timer(torch.device("cpu"))) == {"a": {"": PassTimes(forward_s=2.0)}}
    assert passes == seconds


def test_a_span_of_a_gpu_is_read_in_seconds_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = simulate_gpu(monkeypatch)
    timer = Timer(CUDA)
    assert timer.empty_s == 0
    waits = gpu.waits
    span = timer.span(lambda: gpu.queue(0.25), repeats=3)
    gpu.queue(9)
    assert (gpu.waits, gpu.done_ms) == (waits, 0)
    assert timer.read(span) == 0.75
    assert gpu.done_ms == 750
    timer.wait()
    assert gpu.done_ms == 9750
    Timer(torch.device("cpu")).wait()
    assert gpu.waits == waits + 2


def test_a_gpu_is_not_disturbed_by_processes_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rounds are three calls. On a CPU, disturbed rounds are repeated."""
    simulate_gpu(monkeypatch)
    monkeypatch.setattr("distdl.profiling.timing._other_processes_s", lambda: pytest.fail("the host was observed"))
    times = iter([PassTimes(forward_s=seconds) for seconds in (3.0, 1.0, 2.0)])
    assert interleaved({"a": lambda: {"": next(times)}}, 3, Timer(CUDA)) == {"a": {"": PassTimes(forward_s=2.0)}}
