"""Comparison of PALEO's predictions with measured layers."""

import pytest
import torch
from torch import nn

from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.profiling import timing
from distdl.profiling.comparison import platform, predicted_seconds, select_device
from distdl.profiling.counting.count import count
from distdl.profiling.timing import PassTimes


def test_predictions_inside_a_measured_module_are_added_to_it() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), nn.Linear(2, 2))
    counted = count(network, (8,), 16, training=True, name="made")
    times = paleo.layer_times(counted, paleo.Platform(device=hardware.device("k80")))
    by_layer = {time.name: time.forward.total_s for time in times}
    assert set(by_layer) == {"0.0", "0.1", "1"}
    sums = predicted_seconds(times, {"0": PassTimes()})
    assert sums["0"].forward_s == pytest.approx(by_layer["0.0"] + by_layer["0.1"])
    assert sums["1"].forward_s == by_layer["1"]  # not measured: under its own name


def test_a_cpu_is_described_by_its_measured_rates() -> None:
    device = platform(select_device("cpu")).device
    assert "measured ceilings" in device.name and device.flops_per_s() > 1e8


def test_a_known_gpu_is_described_by_its_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert platform(torch.device("cuda")).device == hardware.device("t4")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another GPU")
    monkeypatch.setattr(timing, "ceilings", lambda device, precision: (2e12, 3e9))
    device = platform(torch.device("cuda")).device
    assert (device.bandwidth_gb_per_s, dict(device.peak_tflops)) == (3, {"fp32": 2})


@pytest.mark.parametrize(
    ("on", "available", "kind"),
    [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_of_a_measurement(monkeypatch: pytest.MonkeyPatch, on: str, available: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert select_device(on).type == kind
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU"):
        select_device("cuda")
