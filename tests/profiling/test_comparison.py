"""Comparison of PALEO's predictions with measured layers."""

import pytest
from torch import nn

from distdl.perf import hardware
from distdl.perf.cost import paleo
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
