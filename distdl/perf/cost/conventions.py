"""Other conventions for counting FLOPs of a layer table, for comparison with published figures."""

from dataclasses import replace
from math import prod
from typing import Literal

from distdl.perf.cost.layers import Layer, Network

Convention = Literal["standard", "lu2017"]
"""standard: 2 FLOPs per multiply-add; lu2017: see `lu2017`."""
LU2017_NORM = 5
"""Operations per element of an LRN. The same cost for batch norms reproduces the paper's figure for ResNet-50."""


def lu2017(network: Network) -> Network:
    """Count the forward pass as Lu, Rallapalli, Chan and La Porta (arXiv:1709.09503); they do not count backward.

    A multiply-add counts 1, a bias 1 per output, a ReLU 1, a pool with a k x k window k^2 per output, a normalization
    5 per element. Results for Caffe's networks in millions: AlexNet 729, VGG16 15503, GoogLeNet 1606, ResNet-50 3922.
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
