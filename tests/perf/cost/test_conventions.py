"""Lu et al. 2017 (arXiv 1709.09503): their FLOPs, of networks as defined in Caffe."""

import pytest
import torchvision

from distdl.perf.cost.conventions import lu2017
from distdl.perf.cost.layers import Layer, Network
from distdl.profiling import published_networks
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless


@pytest.mark.parametrize(
    ("build", "size", "millions"),
    [
        (published_networks.alexnet_caffe, 227, 729),
        (torchvision.models.vgg16, 224, 15503),
        (published_networks.googlenet_caffe, 224, 1606),
        (published_networks.resnet_caffe, 224, 3922),
    ],
)
def test_flops_match_the_paper(build, size, millions):
    with weightless():
        network = count(build(), (3, size, size))
    assert lu2017(network).forward_flops / 1e6 == pytest.approx(millions, abs=0.6)


def test_the_cost_of_each_kind_of_layer_matches_the_paper():
    def cost(kind, geometry=None, macs=0):
        layer = Layer(name="a", kind=kind, input_shape=(1, 8, 4, 4), output_shape=(1, 8, 2, 2), forward_flops=2 * macs,
                      input_grad_flops=9, weight_grad_flops=9, geometry=geometry or {})  # fmt: skip
        network = lu2017(Network(model="a", input=(8, 4, 4), batch=1, layers=(layer,)))
        assert network.training_flops == network.forward_flops  # gradients are not in the paper
        return network.forward_flops

    assert cost("conv", {"bias": True}, macs=100) == 100 + 32
    assert cost("conv", {"bias": False}, macs=100) == 100
    assert cost("activation") == 32
    assert cost("pool", {"window": (3, 3)}) == 9 * 32
    assert cost("norm", {"window": (5,)}) == 5 * 32
    assert cost("elementwise") == 0
