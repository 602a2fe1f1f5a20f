"""Time in kernels, compared with a known time outside of kernels."""

import json
import time

import pytest
import torch

from distdl.profiling.kernels import KernelProfile, covered, kind_of


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


def test_time_between_kernels_is_not_in_kernels(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(10)
    )
    images = torch.randn(8, 3, 32, 32)
    network(images).sum().backward()
    profile = KernelProfile(torch.device("cpu"))
    for _ in range(3):
        network(images).sum().backward()
        time.sleep(0.05)
    summary = profile.stop(3, tmp_path / "trace.json")
    assert 0 < summary["kernel_s"] <= summary["step_s"] - 0.05
    assert {"conv", "dense", "activation"} <= set(summary["by_kind_s"])
    # operators call operators: their self times add up to the time in which any of them ran
    assert sum(summary["by_kind_s"].values()) == pytest.approx(summary["kernel_s"], rel=0.1)
    assert any(
        event.get("name") == "aten::conv2d"
        for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    )
