"""Trials of the study `paleo`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision

from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.perf.cost.conventions import lu2017
from distdl.perf.cost.layers import Network
from distdl.planner.workload import named
from distdl.profiling import layers, published_networks, timing
from distdl.profiling.comparison import platform, predicted_seconds, select_device
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless

K80 = {
    "VGG16": torchvision.models.vgg16,
    "GoogLeNet": published_networks.googlenet_caffe,
    "ResNet-50": published_networks.resnet_caffe,
}
"""The networks of Lu et al. 2017, as defined in Caffe."""


def counts(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Count VGG19 by layer, and the three networks of the K80 table by Lu et al.'s convention and by distdl's."""
    with weightless():
        vgg19 = count(torchvision.models.vgg19(), training=True, name="vgg19")
        networks = {name: count(make(), name=name) for name, make in K80.items()}
    halves, board = hardware.device("k80"), hardware.device("k80-board")
    return {
        "vgg19": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": list(layer.output_shape[1:]),
                "parameters": layer.parameters,
                "forward_flops": layer.forward_flops,
                "training_flops": layer.training_flops,
            }
            for layer in vgg19.layers
        ],
        "vgg19_parameters": vgg19.parameters,
        "k80": [_on_k80(name, network, halves, board) for name, network in networks.items()],
        "board_flops_per_s": board.flops_per_s(),
        "half_flops_per_s": halves.flops_per_s(),
    }


def _on_k80(name: str, network: Network, half: hardware.Device, board: hardware.Device) -> dict[str, Any]:
    operations = lu2017(network).forward_flops
    layers = paleo.layer_times(network, paleo.Platform(device=half))
    return {
        "name": name,
        "lu2017_operations": operations,
        "forward_flops": network.forward_flops,
        "lu2017_s": operations / board.flops_per_s(),
        "board_s": network.forward_flops / board.flops_per_s(),
        "half_s": network.forward_flops / half.flops_per_s(),
        "paleo_half_s": sum(layer.forward.total_s for layer in layers),
    }


def measured(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the layer times and the step time of one network, and predict them with PALEO at this machine's peak."""
    device = select_device(table["on"])
    subject, batch = named(table["network"]), int(table["batch"])
    counted = count(subject.module, subject.input_shape, batch, training=True, name=subject.name)
    target = platform(device)
    network = timing.with_weights(subject.module, device)
    inputs = torch.randn(batch, *subject.input_shape, device=device)
    times = layers.measure(network, inputs, rounds=int(table["rounds"]))
    predicted = predicted_seconds(paleo.layer_times(counted, target), times.layers)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    return {
        "device": name,
        "cuda": device.type == "cuda",
        "threads": torch.get_num_threads(),
        "peak_flops_per_s": target.device.flops_per_s(),
        "training_flops": counted.training_flops,
        "forward_flops": counted.forward_flops,
        "total": asdict(times.total),
        "layer_sum": asdict(times.layer_sum),
        "naive_sum": asdict(times.naive_sum),
        "paleo": asdict(sum(predicted.values(), timing.PassTimes())),
        "layers": {layer: asdict(seconds) for layer, seconds in times.layers.items()},
    }
