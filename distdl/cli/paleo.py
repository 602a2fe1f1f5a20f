"""`distdl paleo MODEL`: times of layers and steps on a device by PALEO's model, and scaling over workers."""

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

from distdl.core.config import ComponentOptions, Count, FilePath, Positive, Precision
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.core.format import Cell
from distdl.core.registry import NO_OPTIONS
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.perf.cost.calibration import stored
from distdl.perf.cost.conventions import Convention
from distdl.perf.cost.layers import Network
from distdl.report import figure_files
from distdl.report.content import Axis, Figure, PlotLayer

ReachedShare = Annotated[float, Field(gt=0, le=1)]
WORKERS = "1,2,4,8,16,32,64,128,256,512,1024"


@dataclass(frozen=True, kw_only=True)
class PaleoPrediction:
    """Times of a network on a device, and its scaling."""

    network: Network
    platform: paleo.Platform
    layers: list[paleo.LayerTime]
    step: paleo.StepTime
    peak_s: float
    """Time of the forward FLOPs at the peak of the device."""
    memory_bytes: int
    scaling: list[paleo.StepTime]
    speedups: list[float]

    def as_dict(self) -> dict[str, Any]:
        """The object that `distdl paleo --json` prints."""
        device, step = self.platform.device, self.step
        return {
            "model": self.network.model,
            "device": device.name,
            "precision": self.platform.precision,
            "ppp": self.platform.ppp,
            "calibrated": self.platform.calibration is not None,
            "batch": self.network.batch,
            "forward_s": step.forward_s,
            "backward_s": step.backward_s,
            "update_s": step.update_s,
            "step_s": step.step_s,
            "samples_per_s": step.samples_per_s,
            "forward_at_peak_s": self.peak_s,
            "memory_bytes": self.memory_bytes,
            "layers": [asdict(layer) for layer in self.layers],
            "scaling": [
                asdict(step) | {"step_s": step.step_s, "samples_per_s": step.samples_per_s, "speedup": speedup}
                for step, speedup in zip(self.scaling, self.speedups, strict=True)
            ],
        }


def paleo_command(
    model: tyro.conf.Positional[str],
    *,
    device: str,
    batch: Count = 0,
    input: str = "",
    precision: Precision = "fp32",
    ppp: ReachedShare | None = None,
    pipelined: bool = False,
    fused: bool = False,
    convention: Convention = "standard",
    workers: str = "",
    network: str = "10gbe",
    network_ppp: ReachedShare = 1.0,
    scheme: Literal["ring", "tree", "butterfly", "one-to-all", "ps"] = "ring",
    servers: Positive = 1,
    scaling: Literal["weak", "strong"] = "weak",
    parallel: Literal["data", "model", "hybrid"] = "data",
    options: ComponentOptions = NO_OPTIONS,
    json: bool = False,
    figure: FilePath | None = None,
) -> None:
    """Predict the time of each layer of a network on a device from its data sheet, and its scaling over workers.

    A layer reads, computes and writes: T = R + C + W (PALEO, Qi et al. 2017). With a device file written by `distdl
    calibrate`, fitted rates are used instead, unless --ppp is given.

    Args:
        model: a network of distdl or torchvision, a profile, or package.module:callable.
        device: a device by name, or a TOML file.
        batch: samples per worker (weak scaling), or of all workers together (strong); by default the profile's, or 1.
        input: shape of one sample, such as 3x224x224; by default that of the network.
        precision: precision of matrix products; the device must have a peak for it.
        ppp: platform percent of peak, as a share: 0.62 for 62 percent; 1 by default.
        pipelined: data transfer and compute overlap; a layer takes the longer of the two times.
        fused: activations are part of the layer before them, as in PALEO.
        convention: lu2017 counts FLOPs as in Lu et al. 2017: 1 per multiply-add, forward only.
        workers: numbers of workers, such as 1,2,4,8; by default 1, or powers of two with --figure.
        network: network between workers, by name, or a TOML file.
        network_ppp: share of the bandwidth of the network that is reached.
        scheme: algorithm that sums gradients; ps uses --servers parameter servers.
        servers: number of parameter servers of scheme ps.
        scaling: weak keeps the batch per worker, strong divides one batch.
        parallel: data, model (each layer is divided), or hybrid (dense layers are divided, others by data).
        options: settings of a network of another package, model.NAME=VALUE.
        json: print a JSON object.
        figure: draw throughput and step time over workers into this file (.png, .svg or .pdf).
    """
    figure_files.check(figure)
    spec = hardware.device(device)
    platform = paleo.Platform(
        device=spec, precision=precision, ppp=1.0 if ppp is None else ppp, pipelined=pipelined,
        calibration=stored(spec, precision) if ppp is None else None,
    )  # fmt: skip
    cluster = paleo.Cluster(
        link=hardware.network(network), scheme=scheme, ppp=network_ppp, servers=servers, parallel=parallel
    )
    counts = parse_workers(workers or (WORKERS if figure else "1"))
    counted = _count(model, input, batch, convention, options)
    if fused:
        counted = paleo.fused(counted)
    steps = paleo.scale(counted, platform, counts, cluster, scaling)
    prediction = PaleoPrediction(
        network=counted,
        platform=platform,
        layers=paleo.layer_times(counted, platform),
        step=paleo.step(counted, platform),
        peak_s=counted.forward_flops / spec.flops_per_s(precision),
        memory_bytes=paleo.memory_bytes(paleo.at_precision(counted, precision)),
        scaling=steps if len(counts) > 1 or counts != [1] else [],
        speedups=paleo.speedups(counted, platform, steps) if len(counts) > 1 or counts != [1] else [],
    )
    if figure:
        title = f"{counted.model} on {spec.name}, {cluster.link.name}, {scheme}"
        figure_files.save(
            figure_files.stacked(*map(figure_files.svg, scaling_figures(prediction, title, scaling))), figure
        )
    if json:
        print(json_format.dumps(prediction.as_dict(), indent=2))
    else:
        show(PlainConsole(), prediction, convention)
    if figure:
        PlainConsole(stderr=json).print(f"figure: {figure}", soft_wrap=True)


def parse_workers(text: str) -> list[int]:
    """Numbers of workers from a list such as "1,2,4"."""
    try:
        counts = [int(number) for number in text.split(",")]
    except ValueError:
        raise UserError(f'--workers "{text}" is not a list of numbers: write it as 1,2,4,8') from None
    if min(counts) < 1:
        raise UserError(f"--workers {text}: there must be at least 1 worker")
    return counts


def _count(model: str, input: str, batch: int, convention: str, options: ComponentOptions) -> Network:
    from distdl.cli.flops import parse_inputs
    from distdl.perf.cost.conventions import lu2017
    from distdl.planner.workload import named
    from distdl.profiling.counting.count import count

    shapes = parse_inputs(input)
    if len(shapes) > 1 or any(integers for _, integers in shapes):
        raise UserError(f"--input {input}: one image shape, as 3x224x224")
    subject = named(model, shapes[0][0] if shapes else None, options)
    counted = count(subject.module, subject.input_shape, batch or subject.batch, training=True, name=subject.name)
    return lu2017(counted) if convention == "lu2017" else counted


def show(console: Console, prediction: PaleoPrediction, convention: str) -> None:
    """Print the table of layers, the totals and the scaling."""
    platform, step, batch = prediction.platform, prediction.step, prediction.network.batch
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    heads = ("layer, ms", "kind", "read", "compute", "write", "forward", "backward")
    cells = [
        [
            layer.name, layer.kind, *map(ms, (layer.forward.read_s, layer.forward.compute_s, layer.forward.write_s)),
            ms(layer.forward.total_s), ms(layer.backward.total_s),
        ]
        for layer in prediction.layers
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    room = max(console.width - sum(widths[1:]) - len(widths), 10)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < 2 else "right", no_wrap=True)
    for name, *rest in cells:
        table.add_row(name if len(name) <= room else "…" + name[1 - room :], *rest)
    console.print(table)
    console.print()
    how = "by its calibration" if platform.calibration else f"PPP {platform.ppp:.0%}"
    console.print(
        f"{prediction.network.model}, batch {batch}, on {platform.device.name}, {platform.precision}, {how}:\n"
        f"forward {ms(step.forward_s)} ms, backward {ms(step.backward_s)} ms, update {ms(step.update_s)} ms, "
        f"{step.samples_per_s:,.0f} images/s training",
        soft_wrap=True,
    )
    if convention == "lu2017":
        console.print("counted as in Lu et al. 2017: 1 per multiply-add, no backward pass")
    console.print(
        f"forward FLOPs at the peak alone: {ms(prediction.peak_s)} ms, {batch / prediction.peak_s:,.0f} images/s",
        soft_wrap=True,
    )
    fits = ""
    if platform.device.memory_gb:
        fits = f" of the device's {platform.device.memory_gb:g} GB"
        if prediction.memory_bytes > platform.device.memory_gb * 1e9:
            fits += ": it does not fit"
    console.print(f"memory to train: {prediction.memory_bytes / 1e9:.3g} GB{fits}", soft_wrap=True)
    for warning in prediction.network.warnings:
        console.print(f"warning: {warning}", style="yellow")
    if prediction.scaling:
        console.print()
        console.print(_scaling_table(prediction.scaling, prediction.speedups))


def _scaling_table(steps: Sequence[paleo.StepTime], speedups: Sequence[float]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("workers", "batch", "compute ms", "exchange ms", "step ms", "images/s", "speedup", "efficiency"):
        table.add_column(head, justify="right", no_wrap=True)
    for step, speedup in zip(steps, speedups, strict=True):
        table.add_row(
            str(step.workers), str(step.batch), ms(step.step_s - step.exchange_s), ms(step.exchange_s), ms(step.step_s),
            f"{step.samples_per_s:,.0f}", f"{speedup:.3g}", f"{speedup / step.workers:.0%}",
        )  # fmt: skip
    return table


def ms(seconds: float) -> str:
    """Milliseconds with three digits; a dot for zero."""
    value = 1e3 * seconds
    if not value:
        return "·"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.3f}"


def scaling_figures(prediction: PaleoPrediction, title: str, scaling: str) -> tuple[Figure, Figure]:
    """Throughput over workers, predicted and ideal, and the parts of a step."""
    steps = prediction.scaling or [prediction.step]
    workers: list[Cell] = [step.workers for step in steps]
    single = prediction.step.samples_per_s
    ideal: dict[str, list[Cell]] = {
        "workers": workers,
        "images/s": [single * step.workers for step in steps],
        "curve": ["ideal"] * len(steps),
    }
    predicted = ideal | {"images/s": [step.samples_per_s for step in steps], "curve": ["predicted"] * len(steps)}
    throughput = Figure(
        name="throughput",
        title=f"{title}: throughput",
        x=Axis(title="workers", scale="log"),
        y=Axis(title="images/s", scale="log"),
        layers=(
            PlotLayer(mark="line", data=predicted, x="workers", y="images/s", series="curve"),
            PlotLayer(mark="points", data=predicted, x="workers", y="images/s", series="curve"),
            PlotLayer(mark="line", data=ideal, x="workers", y="images/s", series="curve"),
        ),
    )
    parts = ("forward", "backward", "update", "exchange")
    bars: dict[str, list[Cell]] = {
        "workers": [str(step.workers) for step in steps for _ in parts],
        "ms per step": [
            1e3 * seconds
            for step in steps
            for seconds in (step.forward_s, step.backward_s, step.update_s, step.exchange_s)
        ],
        "part": [part for _ in steps for part in parts],
    }
    batch = "the batch per worker is constant" if scaling == "weak" else "one batch is divided"
    step_parts = Figure(
        name="step",
        title=f"Parts of a step, {scaling} scaling: {batch}",
        x=Axis(title="workers", scale="category"),
        y=Axis(title="ms per step"),
        layers=(PlotLayer(mark="bars", data=bars, x="workers", y="ms per step", series="part", stack=True),),
    )
    return throughput, step_parts
