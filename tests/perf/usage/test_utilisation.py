"""Performance bounds and utilization, compared with hand calculations."""

import pytest

from distdl.perf.cost.layers import Layer, Network
from distdl.perf.hardware import Device
from distdl.perf.usage.utilisation import bounds, counted, ppp_by_kind

TOY = Device(name="toy", bandwidth_gb_per_s=1.0, peak_tflops={"fp32": 0.001, "bf16": 0.002})
CONV = Layer(
    name="conv",
    kind="conv",
    input_shape=(1, 3, 8, 8),
    output_shape=(1, 4, 8, 8),
    parameters=0,
    forward_flops=3_000_000,
    weight_grad_flops=3_000_000,
    read_bytes=1_000_000,
    write_bytes=2_000_000,
)
RELU = Layer(
    name="relu",
    kind="activation",
    input_shape=(1, 4, 8, 8),
    output_shape=(1, 4, 8, 8),
    read_bytes=2_000_000,
    write_bytes=2_000_000,
)
NETWORK = Network(model="toy", input=(3, 8, 8), batch=1, layers=(CONV, RELU))


def test_bounds_match_hand_calculation():
    limits = bounds(NETWORK, TOY, "fp32")
    assert limits["flops_per_step"] == 6e6
    assert limits["peak_flops_per_s"] == 1e9
    # convolution: 3 ms of products and 3 ms of bytes overlap, in each pass; ReLU: 4 ms forward, 2 + 2 + 2 backward
    assert limits["best_step_s"] == pytest.approx(0.003 + 0.003 + 0.004 + 0.006)


def test_half_precision_has_its_own_peak_and_half_of_the_bytes():
    limits = bounds(NETWORK, TOY, "bf16")
    assert limits["peak_flops_per_s"] == 2e9
    assert limits["best_step_s"] == pytest.approx((0.003 + 0.003 + 0.004 + 0.006) / 2)


@pytest.mark.parametrize(("device", "precision"), [(None, "fp32"), (TOY, "tf32")])
def test_an_unknown_peak_is_none(device, precision):
    assert bounds(NETWORK, device, precision) == {
        "flops_per_step": 6e6,
        "peak_flops_per_s": None,
        "best_step_s": None,
    }


def test_ppp_is_computed_per_kind_of_layer():
    assert ppp_by_kind(NETWORK, {"conv": 0.012, "activation": 0.1, "dense": 0.0}, 1e9) == {"conv": pytest.approx(0.5)}


def test_device_counters_are_averaged_over_training():
    place = {"time_s": 0.0, "epoch": 0}
    rows = [
        {**place, "step": 0, "kind": "nvml", "busy_percent": 0, "throttle": ["gpu_idle"]},  # before the first step
        {**place, "step": 1, "kind": "nvml", "busy_percent": 90, "throttle": []},
        {
            **place,
            "step": 2,
            "kind": "nvml",
            "busy_percent": 100,
            "tensor_active_percent": 40,
            "throttle": ["sw_power_cap"],
        },
        {**place, "step": 2, "kind": "nvml", "error": "lost: GPU is lost"},
        {**place, "step": 2, "kind": "host", "cpu_percent": 70},
    ]
    assert counted(rows) == {
        "busy": pytest.approx(0.95),
        "tensor_active": pytest.approx(0.4),
        "throttled": {"sw_power_cap": 0.5},
    }
    assert counted([]) == {}
