"""Times of complete steps, generated weights, and the measured peak rates of a device."""

import torch
from torch import nn

from distdl.profiling.timing import PassTimes, ceilings, total, with_weights


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


def test_the_total_is_the_time_of_a_step():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    seconds = total(model, torch.randn(8, 64), rounds=1)
    assert seconds.forward_s > 0 and seconds.backward_s > 0
    assert all(parameter.grad is None for parameter in model.parameters())
