"""Sentences, tables and figures of the study `paleo`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table

CONV_SHARE = 0.993702
"""Of VGG19's forward multiply-adds."""
LU2017 = {"VGG16": (15503, 1.776, 563), "GoogLeNet": (1606, 0.184, 5436), "ResNet-50": (3922, 0.449, 2226)}
"""Lu et al. 2017: million operations; and the assignment's answers from them: ms and images/s at 8.73 TFLOPS."""
WITHIN = 0.05
"""A sum of layers this near to the whole adds up."""


def vgg19(result: Mapping[str, Any]) -> Section:
    """FLOPs by layer, and the convolutions' share."""
    layers = [layer for layer in result["vgg19"] if layer["forward_flops"]]
    forward, training = (sum(layer[key] for layer in layers) for key in ("forward_flops", "training_flops"))
    conv = sum(layer["forward_flops"] for layer in layers if layer["kind"] == "conv")
    rows = tuple(
        (
            layer["name"],
            layer["kind"],
            " x ".join(map(str, layer["output"])),
            layer["parameters"],
            layer["forward_flops"] / 1e9,
            layer["training_flops"] / 1e9,
            100 * layer["forward_flops"] / forward,
        )
        for layer in layers
    )
    columns = ("layer", "kind", "output", "parameters", "forward GFLOP", "training")
    by_kind = {"x": [layer["name"] for layer in layers], "y": [layer["forward_flops"] / 1e9 for layer in layers]}
    text = f"Convolutions are {conv / forward:.4%} of VGG19's {forward // 2:,} multiply-adds an image."
    backward = f"Training takes {training:,} FLOPs an image, {training / forward:.3f} times the forward pass: both "
    backward += "gradients cost as much as it, but for the first layer's input, whose gradient nobody asks for."
    return Section(
        title="VGG19, layer by layer",
        text="Counted for one image of 3 x 224 x 224. 1 multiply-add = 2 FLOPs.",
        parts=(
            Finding(text=text, n=0, holds=math.isclose(conv / forward, CONV_SHARE, abs_tol=1e-6)),
            Finding(text=backward, n=0),
            Table(name="vgg19", title="VGG19", columns=(*columns, "share (%)"), rows=rows),
            Figure(
                name="vgg19",
                title="Forward FLOPs by layer",
                x=Axis(title="layer", scale="category"),
                y=Axis(title="forward (GFLOP)"),
                layers=(Layer(mark="bars", data=by_kind | {"kind": [one["kind"] for one in layers]}, series="kind"),),
            ),
        ),
    )


def k80(result: Mapping[str, Any]) -> Section:
    """Forward time and throughput at the K80's peak, in both units of counting."""
    rows, bounds, right = [], [], []
    for one in result["k80"]:
        millions, ms, images = LU2017[one["name"]]
        mine = one["lu2017_operations"] / 1e6
        right.append(abs(mine - millions) < 0.6 and abs(1e3 * one["lu2017_s"] - ms) < 6e-4)
        rows.append(
            (
                one["name"],
                mine,
                millions,
                1e3 * one["lu2017_s"],
                ms,
                1 / one["lu2017_s"],
                images,
            )
        )
        bounds.append((one["name"], 1e3 * one["board_s"], 1e3 * one["half_s"], 1e3 * one["paleo_half_s"]))
    columns = ("network", "operations (M)", "published", "forward (ms)", "document", "images/s", "document's")
    units = ("network", "both GPUs (ms)", "one GPU (ms)", "one GPU, PALEO (ms)")
    title = "The same with 1 multiply-add = 2 FLOPs"
    board, half = result["board_flops_per_s"] / 1e12, result["half_flops_per_s"] / 1e12
    return Section(
        title="Three networks on a K80",
        text=f"The document divides Lu et al.'s operations, 1 a multiply-add, by the {board:g} TFLOPS of both GPUs of "
        f"the board, in which a multiply-add is 2: in one unit the times are twice that. One process has one of the "
        f"two GPUs ({half:g} TFLOPS), and PALEO adds reading and writing at its 240 GB/s. All are bounds at the peak.",
        parts=(
            Finding(
                text="The networks counted as Lu et al. do give the published operations and the document's times.",
                n=0,
                holds=all(right),
            ),
            Table(name="k80", title="One image forward, at the peak", columns=columns, rows=tuple(rows)),
            Table(name="k80-flops", title=title, columns=units, rows=tuple(bounds)),
        ),
    )


def sums(done: Mapping[str, Sequence[Mapping[str, Any]]], batch: int) -> Section:
    """Layers' times added up against the whole, and the share of the ceiling that is reached."""
    first = next(iter(done.values()))[0]
    ours = {name: spread([_ratio(one, "layer_sum") for one in results]) for name, results in done.items()}
    naive = {name: spread([_ratio(one, "naive_sum") for one in results]) for name, results in done.items()}
    ppp = {name: spread([_ratio(one, "paleo") for one in results]) for name, results in done.items()}
    n = min(found.n for found in ours.values())
    parts = (
        Finding(
            text=f"Layers timed where they run add up to {_range(ours)} of the whole step; timed by a clock and a "
            f"synchronisation around each, to {_range(naive)}.",
            n=n,
            holds=all(abs(found.mean - 1) <= WITHIN for found in ours.values()),
        ),
        Finding(text=_why(first["cuda"]), n=0),
        Finding(text=_percent_of_peak(ppp), n=n),
        *_tables(done, ours, naive, ppp),
        _figure(ours, naive),
    )
    where = first["device"] if first["cuda"] else f"this processor, {first['threads']} threads"
    ceiling = first["peak_flops_per_s"] / 1e12
    text = f"Forward and backward at batch {batch} on {where}; "
    text += f"its peak {'by the data sheet' if first['cuda'] else 'as a matrix product reaches it'}: {ceiling:.3g} "
    return Section(title="Layers against the whole", text=text + "TFLOPS.", parts=parts)


def _ratio(one: Mapping[str, Any], key: str) -> float:
    return sum(one[key].values()) / sum(one["total"].values())


def _range(found: Mapping[str, Spread]) -> str:
    means = [one.mean for one in found.values()]
    return f"{means[0]:.1%}" if len(means) == 1 else f"{min(means):.1%} to {max(means):.1%}"


def _percent_of_peak(ppp: Mapping[str, Spread]) -> str:
    means = [one.mean for one in ppp.values()]
    text = f"PALEO's platform percent of peak is {_range(ppp)}"
    if len(means) == 1:
        return text + "."
    return f"{text} by network: one figure for all would be wrong by up to {max(means) / min(means):.2f} times."


def _why(cuda: bool) -> str:
    if cuda:
        return (
            "A GPU's kernels run on while the host goes ahead: timing each layer makes the host wait after each, and "
            "the sum counts that wait once a layer. Timed by the device's own events, short ones repeated and the "
            "cost of an empty measurement subtracted, they add up."
        )
    return (
        "A processor does nothing behind the program's back, so that the naive sum is near the whole too; on a GPU "
        "timing each layer makes the host wait after each, and the sum counts that wait once a layer."
    )


def _tables(
    done: Mapping[str, Sequence[Mapping[str, Any]]],
    ours: Mapping[str, Spread],
    naive: Mapping[str, Spread],
    ppp: Mapping[str, Spread],
) -> tuple[Table, Table]:
    steps, shares = [], []
    for name, results in done.items():
        whole = spread([1e3 * sum(one["total"].values()) for one in results])
        forward = spread([1e3 * one["total"]["forward_s"] for one in results])
        reached = spread([one["training_flops"] / sum(one["total"].values()) / 1e9 for one in results])
        low, high = (None, None) if math.isnan(whole.low) else (whole.low, whole.high)
        steps.append((name, forward.mean, whole.mean, low, high, reached.mean, whole.n))
        shares.append((name, *(100 * found[name].mean for found in (ours, naive, ppp)), whole.n))
    of_steps = ("network", "forward (ms)", "step (ms)", "from", "to", "GFLOPS", "n")
    of_shares = ("network", "sum of layers (%)", "naive sum (%)", "PPP (%)", "n")
    interval = "From and to: the ends of the 95 % interval of the step."
    note = "Sums are in per cent of the step. PPP: PALEO's time at the peaks over the measured one."
    return (
        Table(name="steps", title="Measured", columns=of_steps, rows=tuple(steps), note=interval),
        Table(name="sums", title="Sums of layers", columns=of_shares, rows=tuple(shares), note=note),
    )


def _figure(ours: Mapping[str, Spread], naive: Mapping[str, Spread]) -> Figure:
    columns: dict[str, list] = {"x": [], "y": [], "low": [], "high": [], "way": []}
    for way, found in (("timed where they run", ours), ("a clock around each", naive)):
        for name, one in found.items():
            ends = (None, None) if math.isnan(one.low) else (100 * one.low, 100 * one.high)
            for column, cell in zip(columns.values(), (name, 100 * one.mean, *ends, way), strict=True):
                column.append(cell)
    return Figure(
        name="sums",
        title="Sum of the layers' times",
        x=Axis(title="network", scale="category"),
        y=Axis(title="of the measured step (%)"),
        layers=(
            Layer(mark="points", data=columns, low="low", high="high", series="way"),
            Layer(mark="rule", data={"y": [100.0]}),
        ),
    )
