"""PALEO: predicts a network's time from its layers' shapes and the device's data sheet (Qi et al., ICLR 2017).

A layer reads its inputs and weights, computes, and writes its outputs: T = R + C + W, with C = FLOPs / (peak x PPP) and
R, W = bytes / (bandwidth x PPP). PPP, the platform percent of peak, is the share of the data sheet's rates that the
device and its libraries reach. On a device that overlaps transfers and computation, T = max(C, R + W).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Literal

from distdl.core.errors import UserError
from distdl.perf.comm.collectives import all_gather_s, all_reduce_s
from distdl.perf.cost.calibration import PASSES, Calibration
from distdl.perf.cost.layers import Layer, Network
from distdl.perf.hardware import PRECISION_BYTES, Device, NetworkLink

Scaling = Literal["weak", "strong"]
Parallel = Literal["data", "model", "hybrid"]


@dataclass(frozen=True, kw_only=True)
class PassWork:
    """FLOPs and bytes of one pass of a layer."""

    flops: float = 0.0
    read_bytes: float = 0.0
    write_bytes: float = 0.0

    def __add__(self, other: "PassWork") -> "PassWork":
        return PassWork(
            flops=self.flops + other.flops,
            read_bytes=self.read_bytes + other.read_bytes,
            write_bytes=self.write_bytes + other.write_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class PassTime:
    """R, C and W of one pass in seconds at the device's PPP, and the resulting total."""

    read_s: float
    compute_s: float
    write_s: float
    total_s: float


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One layer's predicted time."""

    name: str
    kind: str
    forward: PassTime
    backward: PassTime


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A device with the precision and the PPP at which it is used."""

    device: Device
    precision: str = "fp32"
    ppp: float = 1.0
    calibration: Calibration | None = None
    """Calibration of this device; if given, it predicts the layers' times instead of R + C + W."""
    pipelined: bool = False
    """Whether the device overlaps transfers and computation: a layer then takes the longer of the two, not the sum."""

    def __post_init__(self) -> None:
        if not 0 < self.ppp <= 1:
            raise UserError(f"PPP is a share between 0 and 1, not {self.ppp}")
        self.device.flops_per_s(self.precision)  # raises UserError for a precision that the device does not have

    def time(self, work: PassWork) -> PassTime:
        """Predict the time of one pass of a layer."""
        bytes_per_s = self.device.bytes_per_s * self.ppp
        read_s, write_s = work.read_bytes / bytes_per_s, work.write_bytes / bytes_per_s
        compute_s = work.flops / (self.device.flops_per_s(self.precision) * self.ppp)
        total_s = max(compute_s, read_s + write_s) if self.pipelined else read_s + compute_s + write_s
        return PassTime(read_s=read_s, compute_s=compute_s, write_s=write_s, total_s=total_s)


def weight_bytes(layer: Layer, dtype_bytes: int) -> int:
    """Return the bytes of the weights that a layer reads, including those shared with another layer."""
    shape = layer.geometry
    if layer.kind == "conv" and "kernel" in shape:
        return shape["in_channels"] // shape["groups"] * shape["out_channels"] * prod(shape["kernel"]) * dtype_bytes
    if layer.kind == "dense" and "in_features" in shape:
        return shape["in_features"] * shape["out_features"] * dtype_bytes
    return layer.parameters * dtype_bytes


def work(layer: Layer, dtype_bytes: int) -> tuple[PassWork, PassWork]:
    """Return the work of a layer's forward and backward pass.

    In the backward pass of a layer with a product, the gradient of the input reads the output's gradient and the
    weights, and the gradient of the weights reads the output's gradient and the input. A layer without a product reads
    the gradient of its output and its saved input, and writes the gradient of its input.
    """
    weights = min(weight_bytes(layer, dtype_bytes), layer.read_bytes)
    inputs, outputs = layer.read_bytes - weights, layer.write_bytes
    forward = PassWork(flops=layer.forward_flops, read_bytes=layer.read_bytes, write_bytes=outputs)
    if not layer.forward_flops:
        if not inputs:
            return forward, PassWork()
        return forward, PassWork(read_bytes=outputs + inputs, write_bytes=inputs)
    backward = PassWork()
    if layer.input_grad_flops:
        backward += PassWork(flops=layer.input_grad_flops, read_bytes=outputs + weights, write_bytes=inputs)
    if layer.weight_grad_flops:
        backward += PassWork(flops=layer.weight_grad_flops, read_bytes=outputs + inputs, write_bytes=weights)
    return forward, backward


def layer_times(network: Network, platform: Platform) -> list[LayerTime]:
    """Predict the forward and backward time of each layer, in execution order."""
    times = []
    for layer in at_precision(network, platform.precision).layers:
        passes = work(layer, PRECISION_BYTES[platform.precision])
        forward, backward = (platform.time(pass_time) for pass_time in passes)
        if platform.calibration:
            fitted = (
                platform.calibration.seconds([layer], platform.device, when, platform.precision) for when in PASSES
            )
            forward, backward = (
                replace(pass_time, total_s=seconds)
                for pass_time, seconds in zip((forward, backward), fitted, strict=True)
            )
        times.append(LayerTime(name=layer.name, kind=layer.kind, forward=forward, backward=backward))
    return times


def at_precision(network: Network, precision: str) -> Network:
    """Return the network with traffic scaled to the bytes per element of a precision."""
    ratio = PRECISION_BYTES[precision] / network.dtype_bytes
    if ratio == 1:
        return network
    layers = (
        replace(layer, read_bytes=round(layer.read_bytes * ratio), write_bytes=round(layer.write_bytes * ratio))
        for layer in network.layers
    )
    return replace(network, layers=tuple(layers), dtype_bytes=PRECISION_BYTES[precision])


def at_batch(network: Network, batch: int) -> Network:
    """Return the network at another batch size: activations and FLOPs are scaled, weights are not."""
    if batch == network.batch:
        return network

    def resized(layer: Layer) -> Layer:
        weights = min(weight_bytes(layer, network.dtype_bytes), layer.read_bytes)
        scaled = {"read_bytes": weights + (layer.read_bytes - weights) * batch // network.batch}
        for name in ("forward_flops", "input_grad_flops", "weight_grad_flops", "write_bytes"):
            scaled[name] = getattr(layer, name) * batch // network.batch
        shapes = {
            name: tuple(size * batch // network.batch if axis == 0 else size for axis, size in enumerate(shape))
            for name, shape in (("input_shape", layer.input_shape), ("output_shape", layer.output_shape))
        }
        return replace(layer, **shapes, **scaled)

    return replace(network, batch=batch, layers=tuple(map(resized, network.layers)))


def fused(network: Network) -> Network:
    """Return the network with activations merged into the previous layers, as in PALEO."""
    return replace(network, layers=tuple(layer for layer in network.layers if layer.kind != "activation"))


def memory_bytes(network: Network, *, states: int = 3) -> int:
    """Estimate the memory of a training in bytes: parameter states, and outputs of all layers that do not run in place.

    Args:
        states: values stored per parameter: 3 for SGD with momentum (weight, gradient, momentum), 4 for Adam.
    """
    output_bytes = sum(layer.write_bytes for layer in network.layers if not layer.geometry.get("op", "").endswith("_"))
    return states * network.parameters * network.dtype_bytes + output_bytes


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Predicted time of a training step."""

    workers: int
    batch: int
    """Batch size over all workers."""
    forward_s: float
    backward_s: float
    update_s: float
    exchange_s: float

    @property
    def step_s(self) -> float:
        """Seconds per step."""
        return self.forward_s + self.backward_s + self.update_s + self.exchange_s

    @property
    def samples_per_s(self) -> float:
        """Throughput of all workers."""
        return self.batch / self.step_s


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Link between workers, all-reduce scheme, and kind of parallelism."""

    link: NetworkLink
    scheme: str = "ring"
    ppp: float = 1.0
    """Achieved share of the link's bandwidth, above 0 and at most 1."""
    servers: int = 1
    """Number of servers of scheme ps."""
    parallel: Parallel = "data"


def step(network: Network, platform: Platform, workers: int = 1, cluster: Cluster | None = None) -> StepTime:
    """Predict the time of a step in which each of `workers` has the network's batch size.

    The cluster's `parallel` is one of:
        data: each worker computes its own batch, and gradients are summed.
        model: each worker computes 1 / `workers` of every product's outputs for all samples; activations are exchanged.
        hybrid: data-parallel convolutions and model-parallel dense layers (Krizhevsky 2014, "One weird trick", scheme
            b). The dense layers process the workers' batches one after another, with an update after each, so their
            computation takes as long as on a single worker, and the exchange is added.

    Args:
        network: the network at the batch size of one worker.
        cluster: link between workers; without it, the exchange takes no time.
    Raises:
        UserError: the cluster's scheme is not known, or a count or share is out of range.
    """
    network = at_precision(network, platform.precision)
    parallel = cluster.parallel if cluster and workers > 1 else "data"
    layers, parameters = network.layers, network.parameters
    if parallel == "model":
        layers = tuple(_part(layer, workers, network.dtype_bytes) for layer in layers)
        parameters //= workers
    times = layer_times(replace(network, layers=layers), platform)
    size = parameters * network.dtype_bytes
    # w -= lr g: reads weights and gradients, writes weights.
    update = PassWork(flops=2 * parameters, read_bytes=2 * size, write_bytes=size)
    return StepTime(
        workers=workers,
        batch=network.batch * workers,
        forward_s=sum(time.forward.total_s for time in times),
        backward_s=sum(time.backward.total_s for time in times),
        update_s=platform.time(update).total_s,
        exchange_s=_exchange_s(network, workers, cluster) if cluster and workers > 1 else 0.0,
    )


def _divided(network: Network, parallel: Parallel) -> list[Layer]:
    """Return the layers of which each worker computes a part of the outputs."""
    if parallel == "model":
        return [layer for layer in network.layers if layer.forward_flops]
    if parallel == "hybrid":
        # The last layer is not divided, so that each worker has the logits of its own samples for the loss.
        return [layer for layer in network.layers if layer.kind == "dense"][:-1]
    return []


def _part(layer: Layer, workers: int, dtype_bytes: int) -> Layer:
    """Return one worker's part of a layer: the samples of all workers, 1 / `workers` of the outputs."""
    if not layer.forward_flops:
        return layer
    weights = min(weight_bytes(layer, dtype_bytes), layer.read_bytes)
    return replace(layer, read_bytes=(layer.read_bytes - weights) * workers + weights // workers)


def _exchange_s(network: Network, workers: int, cluster: Cluster) -> float:
    divided = _divided(network, cluster.parallel)
    summed = network.parameters - sum(layer.parameters for layer in divided)
    seconds = 0.0
    if cluster.parallel != "model":
        seconds = all_reduce_s(
            cluster.scheme, summed * network.dtype_bytes, workers, cluster.link, ppp=cluster.ppp,
            servers=cluster.servers,
        )  # fmt: skip
    # In the forward pass each worker needs the inputs of the others; in the backward pass their gradients are returned.
    for layer in divided:
        inputs = layer.read_bytes - min(weight_bytes(layer, network.dtype_bytes), layer.read_bytes)
        seconds += 2 * all_gather_s(inputs, workers, cluster.link, ppp=cluster.ppp)
    return seconds


def scale(
    network: Network, platform: Platform, workers: Sequence[int], cluster: Cluster, scaling: Scaling = "weak"
) -> list[StepTime]:
    """Predict the step time at several numbers of workers.

    Args:
        network: with the batch size of one worker (weak scaling), or of all workers (strong scaling, where each has
            ceil(batch / workers) samples).
    Raises:
        UserError: a number of workers is below 1, or as `step`.
    """
    if not workers or min(workers) < 1:
        raise UserError(f"numbers of workers must be at least 1, they are {', '.join(map(str, workers))}")
    steps = []
    for count in workers:
        batch = network.batch if scaling == "weak" else ceil(network.batch / count)
        scaled_step = step(at_batch(network, batch), platform, count, cluster)
        steps.append(scaled_step if scaling == "weak" else replace(scaled_step, batch=network.batch))
    return steps


def speedups(network: Network, platform: Platform, steps: Sequence[StepTime]) -> list[float]:
    """Return the throughput of each step relative to a single worker with the network's batch size."""
    single = step(network, platform).samples_per_s
    return [parallel_step.samples_per_s / single for parallel_step in steps]
