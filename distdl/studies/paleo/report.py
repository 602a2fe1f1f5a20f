"""Sentences, tables and figures of the study `paleo`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table

CONV_SHARE = 0.993702
"""Share of convolutions in the multiply-adds of VGG19's forward pass."""
LU2017 = {"VGG16": (15503, 1.776, 563), "GoogLeNet": (1606, 0.184, 5436), "ResNet-50": (3922, 0.449, 2226)}
"""Lu et al. 2017: million operations; and the times computed from them: ms and images/s at 8.73 TFLOPS."""
WITHIN = 0.05
"""Largest relative difference at which a sum of layer times counts as equal to the step time."""


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
    text = f"Convolutions are {conv / forward:.4%} of VGG19's {forward // 2:,} multiply-adds per image."
    backward = f"Training takes {training:,} FLOPs per image, {training / forward:.3f} times the forward pass: the "
    backward += "gradients of weights and inputs each cost as much as the forward pass, but the gradient of the first "
    backward += "layer's input is not needed."
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
                layers=(
                    PlotLayer(mark="bars", data=by_kind | {"kind": [each["kind"] for each in layers]}, series="kind"),
                ),
            ),
        ),
    )


def k80(result: Mapping[str, Any]) -> Section:
    """Forward time and throughput at the K80's peak, with both ways of counting."""
    rows, bounds, matches = [], [], []
    for each in result["k80"]:
        millions, ms, images = LU2017[each["name"]]
        operations = each["lu2017_operations"] / 1e6
        matches.append(abs(operations - millions) < 0.6 and abs(1e3 * each["lu2017_s"] - ms) < 6e-4)
        rows.append(
            (
                each["name"],
                operations,
                millions,
                1e3 * each["lu2017_s"],
                ms,
                1 / each["lu2017_s"],
                images,
            )
        )
        bounds.append((each["name"], 1e3 * each["board_s"], 1e3 * each["half_s"], 1e3 * each["paleo_half_s"]))
    columns = (
        "network",
        "operations (M)",
        "published (M)",
        "forward (ms)",
        "published (ms)",
        "images/s",
        "published images/s",
    )
    units = ("network", "both GPUs (ms)", "one GPU (ms)", "one GPU, PALEO (ms)")
    title = "The same with 1 multiply-add = 2 FLOPs"
    board, half = result["board_flops_per_s"] / 1e12, result["half_flops_per_s"] / 1e12
    return Section(
        title="Three networks on a K80",
        text="The published times divide Lu et al.'s numbers of operations, with 1 per multiply-add, by the peak of "
        f"the board's two GPUs, {board:g} TFLOPS, with 2 per multiply-add. In consistent units the times are twice as "
        f"long. A process uses one of the two GPUs ({half:g} TFLOPS), and PALEO adds the time of memory accesses at "
        "240 GB/s. All times are lower bounds.",
        parts=(
            Finding(
                text="With Lu et al.'s way of counting, operations and times equal the published ones.",
                n=0,
                holds=all(matches),
            ),
            Table(name="k80", title="Forward pass of one image at the peak", columns=columns, rows=tuple(rows)),
            Table(name="k80-flops", title=title, columns=units, rows=tuple(bounds)),
        ),
    )


def sums(done: Mapping[str, Sequence[Mapping[str, Any]]], batch: int) -> Section:
    """Sums of layer times compared with the step time, and the share of the peak that is reached."""
    first = next(iter(done.values()))[0]
    sums_in_place = {name: spread([_ratio(each, "layer_sum") for each in results]) for name, results in done.items()}
    naive = {name: spread([_ratio(each, "naive_sum") for each in results]) for name, results in done.items()}
    ppp = {name: spread([_ratio(each, "paleo") for each in results]) for name, results in done.items()}
    n = min(ratio.n for ratio in sums_in_place.values())
    parts = (
        Finding(
            text=f"Layer times measured in place add up to {_range(sums_in_place)} of the step time; layer times "
            f"measured with a synchronization around each layer add up to {_range(naive)}.",
            n=n,
            holds=all(abs(ratio.mean - 1) <= WITHIN for ratio in sums_in_place.values()),
        ),
        Finding(text=_why(first["cuda"]), n=0),
        Finding(text=_percent_of_peak(ppp), n=n),
        *_tables(done, sums_in_place, naive, ppp),
        _figure(sums_in_place, naive),
    )
    device = first["device"] if first["cuda"] else f"this CPU with {first['threads']} threads"
    source = "from the data sheet" if first["cuda"] else "measured with a matrix product"
    text = f"Forward and backward pass at batch size {batch} on {device}; "
    text += f"peak {source}: {first['peak_flops_per_s'] / 1e12:.3g} TFLOPS."
    return Section(title="Layer times and step time", text=text, parts=parts)


def _ratio(each: Mapping[str, Any], key: str) -> float:
    return sum(each[key].values()) / sum(each["total"].values())


def _range(ratios: Mapping[str, Spread]) -> str:
    means = [each.mean for each in ratios.values()]
    return f"{means[0]:.1%}" if len(means) == 1 else f"{min(means):.1%} to {max(means):.1%}"


def _percent_of_peak(ppp: Mapping[str, Spread]) -> str:
    means = [each.mean for each in ppp.values()]
    text = f"PALEO's platform percent of peak is {_range(ppp)}"
    if len(means) == 1:
        return text + "."
    factor = max(means) / min(means)
    return f"{text}, depending on the network: one value for all is wrong by a factor of up to {factor:.2f}."


def _why(cuda: bool) -> str:
    if cuda:
        return (
            "GPU kernels run asynchronously. Timing each layer on the host needs a synchronization after it, which the "
            "sum counts once per layer. With events of the device, repetitions of short layers and the cost of an "
            "empty measurement subtracted, layer times add up to the step time."
        )
    return (
        "A CPU runs operators synchronously, so the naive sum is also close to the step time. On a GPU, timing each "
        "layer on the host needs a synchronization after it, which the sum counts once per layer."
    )


def _tables(
    done: Mapping[str, Sequence[Mapping[str, Any]]],
    sums_in_place: Mapping[str, Spread],
    naive: Mapping[str, Spread],
    ppp: Mapping[str, Spread],
) -> tuple[Table, Table]:
    steps, shares = [], []
    for name, results in done.items():
        step = spread([1e3 * sum(each["total"].values()) for each in results])
        forward = spread([1e3 * each["total"]["forward_s"] for each in results])
        reached = spread([each["training_flops"] / sum(each["total"].values()) / 1e9 for each in results])
        low, high = (None, None) if math.isnan(step.low) else (step.low, step.high)
        steps.append((name, forward.mean, step.mean, low, high, reached.mean, step.n))
        shares.append((name, *(100 * ratios[name].mean for ratios in (sums_in_place, naive, ppp)), step.n))
    of_steps = ("network", "forward (ms)", "step (ms)", "from", "to", "GFLOPS", "n")
    of_shares = ("network", "sum of layers (%)", "naive sum (%)", "PPP (%)", "n")
    interval = "from and to: 95 % confidence interval of the step time."
    note = (
        "Sums are in per cent of the step time. PPP (platform percent of peak): PALEO's time at the peak, divided by "
    )
    note += "the measured time."
    return (
        Table(name="steps", title="Measured", columns=of_steps, rows=tuple(steps), note=interval),
        Table(name="sums", title="Sums of layers", columns=of_shares, rows=tuple(shares), note=note),
    )


def _figure(sums_in_place: Mapping[str, Spread], naive: Mapping[str, Spread]) -> Figure:
    columns: dict[str, list] = {"x": [], "y": [], "low": [], "high": [], "method": []}
    for method, ratios in (("measured in place", sums_in_place), ("synchronization per layer", naive)):
        for name, each in ratios.items():
            ends = (None, None) if math.isnan(each.low) else (100 * each.low, 100 * each.high)
            for column, cell in zip(columns.values(), (name, 100 * each.mean, *ends, method), strict=True):
                column.append(cell)
    return Figure(
        name="sums",
        title="Sum of the layer times",
        x=Axis(title="network", scale="category"),
        y=Axis(title="share of the measured step time (%)"),
        layers=(
            PlotLayer(mark="points", data=columns, low="low", high="high", series="method"),
            PlotLayer(mark="rule", data={"y": [100.0]}),
        ),
    )
