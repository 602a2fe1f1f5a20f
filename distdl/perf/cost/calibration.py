"""A predictor fitted to a device, with separate rates for each kind of layer instead of PALEO's single percentage.

One PPP for all layers is wrong by half. Here a pass of a layer takes

    seconds = compute C + edge E + traffic M + layer_s

    C  multiplications of its matrix product, m x k by k x n, in seconds at the device's peak; for a 3x3 convolution of
       stride 1 on devices with Winograd kernels 2.25 times fewer: F(2x2, 3x3), Lavin and Gray 2016. Of a layer that
       slides a window and has no product, a pool's: 2 for each position in the window and output, as PALEO counts it
    E  C (1/m + 1/n): a product with short sides moves its operands more often; C + edge E is C at a side's
       half-performance length, Hockney and Jesshope 1981
    M  bytes read and written, in seconds at the device's bandwidth
    layer_s  for each kernel: a launch, and what a small tensor cannot fill

with coefficients shared by the layers of a kind, or by all. They are fitted by non-negative least squares on relative
error, with floors that keep each rate physical: no kind of layer computes faster than the device can.
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
    """One number to fit: the rate of a term for some kinds of layers, in one pass or in both."""

    term: TermName
    kinds: frozenset[str] | None = None
    """None: all kinds."""
    when: Pass | None = None
    least: float = 0.0

    def applies(self, kind: str, when: Pass) -> bool:
        return (self.kinds is None or kind in self.kinds) and self.when in (None, when)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Layers that ran together, and the seconds they took in one pass on one device."""

    layers: Sequence[Layer]
    device: Device
    when: Pass
    seconds: float
    precision: str = "fp32"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fitted coefficients. `seconds` predicts."""

    form: tuple[Coefficient, ...]
    values: tuple[float, ...]
    winograd: bool = False
    """Whether the device's libraries have Winograd kernels; their layers are then a separate kind."""

    def seconds(self, layers: Iterable[Layer], device: Device, when: Pass, precision: str = "fp32") -> float:
        """Predicted seconds of one pass over the layers."""
        return float(row(layers, device, when, precision, self.form, self.winograd) @ np.array(self.values))

    def step_s(self, network: Network, device: Device, precision: str = "fp32") -> float:
        """Predicted seconds of a network's forward and backward pass."""
        return sum(self.seconds(network.layers, device, when, precision) for when in PASSES)


def fit(observations: Sequence[Observation], form: Sequence[Coefficient], *, winograd: bool = False) -> Calibration:
    """Least squares on relative error, each coefficient at or above its floor.

    Args:
        observations: at least as many as coefficients.
        form: the coefficients; where two apply to the same term of a layer, they add up.
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
    """[len(form)] values at or above their floors, of least squared error in seconds, each weighed."""
    from distdl.perf.regression import nonnegative  # scipy, which a training that only predicts does not import

    root = np.sqrt(weights)
    weighted, minimum = matrix * root[:, None], np.array([coefficient.least for coefficient in form])
    return nonnegative(weighted, root * seconds - weighted @ minimum) + minimum


def fit_by_kind(observations: Sequence[Observation]) -> Calibration:
    """Fit separate coefficients for each kind of layer and each pass, from layers timed one by one.

    A kind is fitted as a whole, and again for each operator in it: the former is for operators that were not measured.
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
    """One kind's coefficients in one pass.

    Squared errors are weighted by one over the time, between absolute and relative: a step is the sum of its layers,
    long layers are few, and relative error favours layers that were measured too short, so that sums are too small.
    """
    has_products = any(layer.forward_flops for observation in observations for layer in observation.layers)
    has_window = any(window_flops(layer) for observation in observations for layer in observation.layers)
    left_out = () if has_products else ("edge",) if has_window else ("compute", "edge")
    names: list[TermName] = [name for name in TERMS if name not in left_out]
    # With few layers of a kind the shorter form is used: their sides vary too little.
    if len(observations) < 2 * len(names) and "edge" in names:
        names.remove("edge")
    only = frozenset({kind})
    floors = {"compute": 1.0}
    form = [Coefficient(term=name, kinds=only, when=when, least=floors.get(name, 0.0)) for name in names]
    # All of these layers count as this kind here, even if a narrower kind has coefficients too.
    matrix = np.array([_sums(observation, names) for observation in observations])
    measured = np.array([observation.seconds for observation in observations])
    values = _least_squares(matrix, measured, form, 1 / measured)
    return Calibration(form=tuple(form), values=tuple(map(float, values)))


def _sums(observation: Observation, names: Sequence[str]) -> Array:
    """[len(names)] sums of terms over an observation's layers."""
    by_layer = [
        terms(layer, observation.device, observation.when, observation.precision, False) for layer in observation.layers
    ]
    return np.array([sum(values.get(name, 0.0) for values in by_layer) for name in names])


def _main(observation: Observation) -> Layer:
    """The layer that gives a module with several its kind: by its products, random numbers, or bytes."""
    layers = observation.layers
    return max(layers, key=lambda layer: (layer.forward_flops, kind_of(layer) == "random", layer.read_bytes))


def row(
    layers: Iterable[Layer], device: Device, when: Pass, precision: str, form: Sequence[Coefficient], winograd: bool
) -> Array:
    """[len(form)] sums of each coefficient's term over the layers."""
    sums: dict[tuple[str, str], float] = {}
    fitted = {kind for coefficient in form if coefficient.when in (None, when) for kind in coefficient.kinds or ()}
    for layer in layers:
        # The narrowest kind that was fitted; a kind that was not measured counts as the most general one.
        plainest = "dense" if layer.forward_flops else "elementwise"
        narrowest = (operator_of(layer, winograd), kind_of(layer, winograd), layer.kind, plainest)
        kind = next((name for name in narrowest if name in fitted), layer.kind)
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
    """A layer's operator if its kind has several speeds: strided convolutions; layers without a product by name."""
    shape = layer.geometry
    if layer.kind == "conv" and "stride" in shape and not winograd:
        return kind_of(layer) + ("" if set(shape["stride"]) == {1} else ", strided")
    if layer.forward_flops or "op" not in shape:
        return kind_of(layer, winograd)
    return f"{layer.kind} {shape['op'].rstrip('_')}"


def window_flops(layer: Layer) -> int:
    """FLOPs of a layer that slides a window and has no product: 2 for each position in the window and output."""
    window = layer.geometry.get("window")
    return 0 if layer.forward_flops or not window else 2 * int(np.prod(window)) * int(np.prod(layer.output_shape))


def kind_of(layer: Layer, winograd: bool = False) -> str:
    """A layer's kind with respect to speed: depthwise, grouped, pointwise and Winograd convolutions are separate."""
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
    """The terms of one pass of a layer."""
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
    """The matrix products of a pass: (FLOPs, the result's two sides, number of such products side by side)."""
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
    """[observations] predictions over measurements, minus 1: those of each name from a fit to all others."""
    errors = np.zeros(len(observations))
    for name in dict.fromkeys(names):
        model = fitted(
            [
                other_observation
                for other_observation, other_name in zip(observations, names, strict=True)
                if other_name != name
            ]
        )
        for place, (observation, other_name) in enumerate(zip(observations, names, strict=True)):
            if other_name == name:
                errors[place] = (
                    model.seconds(observation.layers, observation.device, observation.when, observation.precision)
                    / observation.seconds
                    - 1
                )
    return errors


def stored(device: Device, precision: str) -> Calibration | None:
    """The calibration in a device's file, if it has one for this precision."""
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
            f"{device.name}: its calibration for {precision} cannot be read ({error}): distdl calibrate makes it again"
        ) from None


def to_store(calibration: Calibration) -> dict[str, object]:
    """The table that `stored` reads."""
    rows = []
    for coefficient, value in zip(calibration.form, calibration.values, strict=True):
        row: dict[str, object] = {"term": coefficient.term, "value": value}
        if coefficient.kinds is not None:
            row["kinds"] = sorted(coefficient.kinds)
        if coefficient.when:
            row["when"] = coefficient.when
        rows.append(row)
    return {"winograd": calibration.winograd, "coefficients": rows}
