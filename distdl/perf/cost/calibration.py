"""A predictor fitted to a device, with separate rates for each kind of layer instead of PALEO's single percentage.

A single PPP for all layers has errors of up to 50 %. In this model a pass of a layer takes

    seconds = compute C + edge E + traffic M + layer_s

    C  time of the FLOPs of its matrix product, m x k by k x n, at the device's peak; 2.25 times fewer for a 3x3
       convolution of stride 1 on devices with Winograd kernels (F(2x2, 3x3), Lavin and Gray 2016). For a layer with a
       sliding window but without a product, such as pooling: 2 FLOPs per window position and output, as in PALEO
    E  C (1/m + 1/n): a product with short sides moves its operands more often. The coefficient `edge` is the side's
       half-performance length (Hockney and Jesshope 1981): at m = edge and large n the time doubles
    M  time of the bytes read and written, at the device's bandwidth
    layer_s  constant time per kernel: its launch, and idle units with a small tensor

with coefficients shared by the layers of a kind, or by all layers. They are fitted by non-negative least squares on
relative error, with lower bounds that keep each rate physical: no kind of layer is faster than the device's peak.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.arrays import Array
from distdl.perf.cost.layers import Layer, Network
from distdl.perf.hardware import Device

Pass = Literal["forward", "backward"]
PASSES: tuple[Pass, Pass] = ("forward", "backward")
TermName = Literal["compute", "edge", "traffic", "layer"]
TERMS: tuple[TermName, ...] = ("compute", "edge", "traffic", "layer")

WINOGRAD = 2.25
"""A 2x2 tile of a 3x3 convolution takes 16 multiplications instead of 36."""
WINOGRAD_CHANNELS = 16
"""Libraries use it from this number of input channels."""
PASSES_OVER_DATA = {"norm": (1.5, 2.5)}
OTHER_PASSES = (1.0, 1.5)
"""Number of times that a layer without a product moves its inputs and outputs, forward and backward. Backward it reads
the gradient and its saved input and writes a gradient: 3 tensors instead of 2. Batch norm reads its input twice
(statistics, then values), and backward its input and gradient twice."""


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """One number to fit: the coefficient of a term for some kinds of layers, in one pass or in both."""

    term: TermName
    kinds: frozenset[str] | None = None
    """Kinds of layers; None for all."""
    when: Pass | None = None
    """Pass; None for both."""
    least: float = 0.0
    """Lower bound."""

    def applies(self, kind: str, when: Pass) -> bool:
        """Whether it applies to layers of a kind in a pass."""
        return (self.kinds is None or kind in self.kinds) and self.when in (None, when)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Layers that ran together, and their measured time in seconds in one pass on one device."""

    layers: Sequence[Layer]
    device: Device
    when: Pass
    seconds: float
    precision: str = "fp32"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fitted coefficients, from which `seconds` predicts."""

    form: tuple[Coefficient, ...]
    values: tuple[float, ...]
    winograd: bool = False
    """Whether the device's libraries have Winograd kernels; layers that use them are then a separate kind."""

    def seconds(self, layers: Iterable[Layer], device: Device, when: Pass, precision: str = "fp32") -> float:
        """Predict the seconds of one pass through the layers."""
        return float(row(layers, device, when, precision, self.form, self.winograd) @ np.array(self.values))

    def step_s(self, network: Network, device: Device, precision: str = "fp32") -> float:
        """Predict the seconds of a network's forward and backward pass."""
        return sum(self.seconds(network.layers, device, when, precision) for when in PASSES)


def fit(observations: Sequence[Observation], form: Sequence[Coefficient], *, winograd: bool = False) -> Calibration:
    """Fit coefficients by least squares on relative error, each at or above its lower bound.

    Args:
        observations: at least as many as coefficients.
        form: the coefficients; if two apply to the same term of a layer, their sum is used.
        winograd: whether the device's libraries have Winograd kernels.
    """
    matrix = np.array(
        [
            row(observation.layers, observation.device, observation.when, observation.precision, form, winograd)
            for observation in observations
        ]
    )
    seconds = np.array([observation.seconds for observation in observations])
    values = _least_squares(matrix, seconds, form, 1 / seconds**2)
    return Calibration(form=tuple(form), values=tuple(map(float, values)), winograd=winograd)


def _least_squares(matrix: Array, seconds: Array, form: Sequence[Coefficient], weights: Array) -> Array:
    """Return values [len(form)] at or above their lower bounds that minimize the weighted squared error in seconds."""
    from distdl.perf.regression import nonnegative  # imports scipy, which a training that only predicts does not need

    root = np.sqrt(weights)
    weighted, minimum = matrix * root[:, None], np.array([coefficient.least for coefficient in form])
    return nonnegative(weighted, root * seconds - weighted @ minimum) + minimum


def fit_by_kind(observations: Sequence[Observation]) -> Calibration:
    """Fit separate coefficients for each kind of layer and each pass, from layers that were timed separately.

    Each kind is fitted once for all its operators, for operators that were not measured, and once for each operator.
    """
    form: list[Coefficient] = []
    values: list[float] = []
    for when in PASSES:
        by_kind: dict[str, list[Observation]] = {}
        for observation in observations:
            if observation.when == when:
                for kind in dict.fromkeys((kind_of(_main(observation)), operator_of(_main(observation)))):
                    by_kind.setdefault(kind, []).append(observation)
        for kind, group in sorted(by_kind.items()):
            kind_fit = _fit_kind(kind, group, when)
            form += kind_fit.form
            values += kind_fit.values
    return Calibration(form=tuple(form), values=tuple(values))


def _fit_kind(kind: str, observations: Sequence[Observation], when: Pass) -> Calibration:
    """Fit the coefficients of one kind in one pass.

    Squared errors are divided by the time, a compromise between absolute and relative error. Absolute error depends on
    a few long layers; relative error favors layers with too short measurements, so that sums become too small.
    """
    has_products = any(layer.forward_flops for observation in observations for layer in observation.layers)
    has_window = any(window_flops(layer) for observation in observations for layer in observation.layers)
    left_out = () if has_products else ("edge",) if has_window else ("compute", "edge")
    names: list[TermName] = [name for name in TERMS if name not in left_out]
    # With few layers of a kind, their sides vary too little to fit "edge".
    if len(observations) < 2 * len(names) and "edge" in names:
        names.remove("edge")
    only = frozenset({kind})
    floors = {"compute": 1.0}
    form = [Coefficient(term=name, kinds=only, when=when, least=floors.get(name, 0.0)) for name in names]
    # All of these layers belong to this kind here, even if a narrower kind has its own coefficients.
    matrix = np.array([_sums(observation, names) for observation in observations])
    measured = np.array([observation.seconds for observation in observations])
    values = _least_squares(matrix, measured, form, 1 / measured)
    return Calibration(form=tuple(form), values=tuple(map(float, values)))


def _sums(observation: Observation, names: Sequence[str]) -> Array:
    """Sum each term over an observation's layers, [len(names)]."""
    by_layer = [
        terms(layer, observation.device, observation.when, observation.precision, False) for layer in observation.layers
    ]
    return np.array([sum(values.get(name, 0.0) for values in by_layer) for name in names])


def _main(observation: Observation) -> Layer:
    """Return the layer that determines the kind of a module with several: by FLOPs, random numbers, or bytes."""
    layers = observation.layers
    return max(layers, key=lambda layer: (layer.forward_flops, kind_of(layer) == "random", layer.read_bytes))


def row(
    layers: Iterable[Layer], device: Device, when: Pass, precision: str, form: Sequence[Coefficient], winograd: bool
) -> Array:
    """Sum each coefficient's term over the layers, [len(form)]."""
    sums: dict[tuple[str, str], float] = {}
    fitted = {kind for coefficient in form if coefficient.when in (None, when) for kind in coefficient.kinds or ()}
    for layer in layers:
        # Use the narrowest kind that was fitted; if none of them was measured, the most general one.
        general = "dense" if layer.forward_flops else "elementwise"
        candidates = (operator_of(layer, winograd), kind_of(layer, winograd), layer.kind, general)
        kind = next((name for name in candidates if name in fitted), layer.kind)
        for name, value in terms(layer, device, when, precision, winograd).items():
            sums[kind, name] = sums.get((kind, name), 0.0) + value
    return np.array(
        [
            sum(
                value
                for (kind, term), value in sums.items()
                if term == coefficient.term and coefficient.applies(kind, when)
            )
            for coefficient in form
        ]
    )


def operator_of(layer: Layer, winograd: bool = False) -> str:
    """Return a layer's kind, subdivided by speed: strided convolutions, and operators without products by name."""
    shape = layer.geometry
    if layer.kind == "conv" and "stride" in shape and not winograd:
        return kind_of(layer) + ("" if set(shape["stride"]) == {1} else ", strided")
    if layer.forward_flops or "op" not in shape:
        return kind_of(layer, winograd)
    return f"{layer.kind} {shape['op'].rstrip('_')}"


def window_flops(layer: Layer) -> int:
    """Return the FLOPs of a layer with a sliding window but no product: 2 per window position and output."""
    window = layer.geometry.get("window")
    return 0 if layer.forward_flops or not window else 2 * int(np.prod(window)) * int(np.prod(layer.output_shape))


def kind_of(layer: Layer, winograd: bool = False) -> str:
    """Return a layer's kind for timing: depthwise, grouped, pointwise and Winograd convolutions are separate kinds."""
    shape = layer.geometry
    if shape.get("op") == "bernoulli_":
        return "random"
    if layer.kind != "conv" or "groups" not in shape:
        return layer.kind
    if shape["groups"] == shape["in_channels"] > 1:
        return "depthwise"
    if shape["groups"] > 1 and not winograd:
        return "grouped"
    if set(shape["kernel"]) == {1} and not winograd:
        return "pointwise"
    if winograd and _is_winograd(layer):
        return "winograd"
    return "conv"


def _is_winograd(layer: Layer) -> bool:
    shape = layer.geometry
    is_3x3, has_stride_1 = tuple(shape["kernel"]) == (3, 3), set(shape["stride"]) == {1}
    return is_3x3 and has_stride_1 and shape["in_channels"] >= WINOGRAD_CHANNELS


def terms(layer: Layer, device: Device, when: Pass, precision: str, winograd: bool) -> Mapping[str, float]:
    """Return the terms of one pass of a layer: seconds by name, and for "layer" the number of kernels."""
    moved_s = (layer.read_bytes + layer.write_bytes) / device.bytes_per_s
    backward = when == "backward"
    if not layer.forward_flops:
        if layer.geometry.get("op") == "none":
            return {}
        times = PASSES_OVER_DATA.get(layer.kind, OTHER_PASSES)[backward]
        windows_s = window_flops(layer) / device.flops_per_s(precision)
        return {"traffic": times * moved_s, "layer": 1.0} | ({"compute": windows_s} if windows_s else {})
    total: dict[str, float] = dict.fromkeys(TERMS, 0.0)
    fewer = WINOGRAD if kind_of(layer, winograd) == "winograd" else 1.0
    for flops, (m, n), groups in products(layer, when):
        compute_s = flops / fewer / device.flops_per_s(precision)
        total["compute"] += compute_s
        total["edge"] += compute_s * (1 / m + 1 / n)
        total["traffic"] += moved_s
        total["layer"] += groups
    return total


Sides = dict[str, tuple[float, float]]


def products(layer: Layer, when: Pass) -> list[tuple[int, tuple[float, float], int]]:
    """Return the matrix products of a pass: (FLOPs, two sides of the result, number of independent products)."""
    shape, inf = layer.geometry, float("inf")
    if layer.kind == "conv" and "kernel" in shape:
        groups, taps = shape["groups"], int(np.prod(shape["kernel"]))
        cin, cout = shape["in_channels"] // groups, shape["out_channels"] // groups
        inputs, outputs = (size[0] * int(np.prod(size[2:])) for size in (layer.input_shape, layer.output_shape))
        sides: Sides = {"forward": (cout, outputs), "input": (cin, inputs), "weight": (cout, cin * taps)}
    elif layer.kind == "dense" and "in_features" in shape:
        groups, rows = 1, int(np.prod(layer.output_shape[:-1]))
        inside, outside = shape["in_features"], shape["out_features"]
        sides = {"forward": (outside, rows), "input": (inside, rows), "weight": (outside, inside)}
    else:
        groups, sides = 1, {"forward": (inf, inf), "input": (inf, inf), "weight": (inf, inf)}
    if when == "forward":
        return [(layer.forward_flops, sides["forward"], groups)]
    gradients = {"input": layer.input_grad_flops, "weight": layer.weight_grad_flops}
    return [(flops, sides[name], groups) for name, flops in gradients.items() if flops]


def left_out(
    observations: Sequence[Observation], names: Sequence[str], fitted: Callable[[list[Observation]], Calibration]
) -> Array:
    """Compute leave-one-out errors [observations]: predicted / measured - 1.

    Args:
        names: [observations] name of each; observations of a name are predicted by a fit to all other names.
        fitted: function that fits observations.
    """
    errors = np.zeros(len(observations))
    for name in dict.fromkeys(names):
        model = fitted(
            [
                other_observation
                for other_observation, other_name in zip(observations, names, strict=True)
                if other_name != name
            ]
        )
        for index, (observation, other_name) in enumerate(zip(observations, names, strict=True)):
            if other_name == name:
                errors[index] = (
                    model.seconds(observation.layers, observation.device, observation.when, observation.precision)
                    / observation.seconds
                    - 1
                )
    return errors


def stored(device: Device, precision: str) -> Calibration | None:
    """Read the calibration from a device's file; None if there is none for this precision.

    Raises:
        UserError: the calibration cannot be read.
    """
    table = device.calibration.get(precision)
    if table is None:
        return None
    try:
        form, values = [], []
        for row in table["coefficients"]:
            kinds = frozenset(row["kinds"]) if "kinds" in row else None
            form.append(Coefficient(term=row["term"], kinds=kinds, when=row.get("when")))
            values.append(float(row["value"]))
        return Calibration(form=tuple(form), values=tuple(values), winograd=bool(table.get("winograd", False)))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{device.name}: its calibration for {precision} cannot be read ({error}): run distdl calibrate again"
        ) from None


def to_store(calibration: Calibration) -> dict[str, object]:
    """Convert a calibration to the table that `stored` reads."""
    rows = []
    for coefficient, value in zip(calibration.form, calibration.values, strict=True):
        row: dict[str, object] = {"term": coefficient.term, "value": value}
        if coefficient.kinds is not None:
            row["kinds"] = sorted(coefficient.kinds)
        if coefficient.when:
            row["when"] = coefficient.when
        rows.append(row)
    return {"winograd": calibration.winograd, "coefficients": rows}
