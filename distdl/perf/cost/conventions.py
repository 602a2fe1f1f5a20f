"""Other conventions of counting FLOPs, for comparison with published figures. Reads a layer table."""

from dataclasses import replace
from math import prod

from distdl.perf.cost.layers import Layer, Network

LU2017_NORM = 5
"""Operations per element of an LRN. The same cost for batch norms reproduces the paper's figure for ResNet-50."""


def lu2017(network: Network) -> Network:
    """The forward pass as Lu, Rallapalli, Chan and La Porta count it (arXiv 1709.09503), who leave out the backward.

    1 for a multiply-add, 1 for an output's bias, 1 for a ReLU, k^2 for an output of a pool with a k x k window, 5 for a
    normalised element. With the networks as Caffe had them: AlexNet 729, VGG16 15503, GoogLeNet 1606, ResNet-50 3922
    million.
    """
    layers = (
        replace(layer, forward_flops=_operations(layer), input_grad_flops=0, weight_grad_flops=0)
        for layer in network.layers
    )
    return replace(network, layers=tuple(layers))


def _operations(layer: Layer) -> int:
    outputs = prod(layer.output_shape)
    if layer.kind == "activation":
        return outputs
    if layer.kind == "pool":
        return outputs * prod(layer.geometry.get("window", ()))
    if layer.kind == "norm":
        return outputs * LU2017_NORM
    return layer.forward_flops // 2 + outputs * bool(layer.geometry.get("bias"))
