"""`distdl paleo MODEL`: PALEO's time of each layer on a device, a step's, and how it scales over workers."""

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

from distdl.core.config import Count, Positive
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.core.format import Cell
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.perf.cost.calibration import stored
from distdl.perf.cost.layers import Network
from distdl.report import figure_files
from distdl.report.content import Axis, Figure, Layer

WORKERS = "1,2,4,8,16,32,64,128,256,512,1024"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All that the verb says."""

    network: Network
    platform: paleo.Platform
    layers: list[paleo.LayerTime]
    step: paleo.StepTime
    peak_s: float
    """Of the forward pass's FLOPs alone, at the whole of the device's peak."""
    memory_bytes: int
    scaling: list[paleo.StepTime]
    speedups: list[float]

    def as_dict(self) -> dict[str, Any]:
        """What `distdl paleo --json` prints."""
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
                asdict(one) | {"step_s": one.step_s, "samples_per_s": one.samples_per_s, "speedup": speedup}
                for one, speedup in zip(self.scaling, self.speedups, strict=True)
            ],
        }


def paleo_command(
    model: tyro.conf.Positional[str],
    *,
    device: str,
    batch: Count = 0,
    input: str = "",
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = "fp32",
    ppp: float | None = None,
    pipelined: bool = False,
    fused: bool = False,
    convention: Literal["standard", "lu2017"] = "standard",
    workers: str = "",
    network: str = "10gbe",
    network_ppp: Annotated[float, Field(gt=0, le=1)] = 1.0,
    scheme: Literal["ring", "tree", "butterfly", "one-to-all", "ps"] = "ring",
    servers: Positive = 1,
    scaling: Literal["weak", "strong"] = "weak",
    parallel: Literal["data", "model", "hybrid"] = "data",
    json: bool = False,
    figure: Path | None = None,
) -> None:
    """Predict a network's time on a device from its data sheet, layer by layer, and how it scales over workers.

    A layer reads, computes and writes: T = R + C + W (PALEO, Qi et al. 2017). A device file that `distdl calibrate`
    wrote predicts by its own fitted rates instead, unless --ppp is given.

    Args:
        model: a network of distdl or torchvision, a profile, or package.module:callable.
        device: a device by name, or a TOML file.
        batch: samples of one worker (weak scaling), or of all together (strong); by default a profile's, or 1.
        input: shape of one sample, as 3x224x224; the network's own by default.
        precision: of the matrix products, which the device must have a peak for.
        ppp: platform percent of peak, a share: 0.62 for 62 percent. 1 by default.
        pipelined: the device moves and computes at once: a layer takes the longer of the two.
        fused: activations are part of the layers before them, as PALEO takes them.
        convention: lu2017 counts FLOPs as Lu et al. 2017 do, 1 for a multiply-add, forward alone.
        workers: numbers of workers to scale to, as 1,2,4,8; without it and --figure, one worker alone.
        network: what joins the workers, by name, or a TOML file.
        network_ppp: share of the network's bandwidth that is reached.
        scheme: how gradients are summed; ps has --servers parameter servers.
        servers: of scheme ps.
        scaling: weak keeps a worker's batch, strong divides one.
        parallel: data, model (each layer divided), or hybrid (dense layers divided, the rest by data).
        json: print a JSON object.
        figure: draw throughput and step time over workers into this file (.png, .svg or .pdf).
    """
    figure_files.check(figure)
    found = hardware.device(device)
    platform = paleo.Platform(
        device=found, precision=precision, ppp=1.0 if ppp is None else ppp, pipelined=pipelined,
        calibration=stored(found, precision) if ppp is None else None,
    )  # fmt: skip
    cluster = paleo.Cluster(
        link=hardware.network(network), scheme=scheme, ppp=network_ppp, servers=servers, parallel=parallel
    )
    counts = parse_workers(workers or (WORKERS if figure else "1"))
    counted = _count(model, input, batch, convention)
    if fused:
        counted = paleo.fused(counted)
    steps = paleo.scale(counted, platform, counts, cluster, scaling)
    answer = Answer(
        network=counted,
        platform=platform,
        layers=paleo.layer_times(counted, platform),
        step=paleo.step(counted, platform),
        peak_s=counted.forward_flops / found.flops_per_s(precision),
        memory_bytes=paleo.memory_bytes(paleo.at_precision(counted, precision)),
        scaling=steps if len(counts) > 1 or counts != [1] else [],
        speedups=paleo.speedups(counted, platform, steps) if len(counts) > 1 or counts != [1] else [],
    )
    if figure:
        title = f"{counted.model} on {found.name}, {cluster.link.name}, {scheme}"
        figure_files.save(figure_files.stacked(*map(figure_files.svg, scaling_figures(answer, title, scaling))), figure)
    if json:
        print(json_format.dumps(answer.as_dict(), indent=2))
    else:
        show(PlainConsole(), answer, convention)


def parse_workers(text: str) -> list[int]:
    """ "1,2,4" as numbers."""
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f'--workers "{text}" is not a list of numbers: write it as 1,2,4,8') from None
    if min(counts) < 1:
        raise UserError(f"--workers {text}: there must be at least 1 worker")
    return counts


def _count(model: str, input: str, batch: int, convention: str) -> Network:
    from distdl.cli.flops import parse_inputs
    from distdl.perf.cost.conventions import lu2017
    from distdl.planner.workload import named
    from distdl.profiling.counting.count import count

    shapes = parse_inputs(input)
    if len(shapes) > 1 or any(integers for _, integers in shapes):
        raise UserError(f"--input {input}: one image shape, as 3x224x224")
    subject = named(model, shapes[0][0] if shapes else None)
    counted = count(subject.module, subject.input_shape, batch or subject.batch, training=True, name=subject.name)
    return lu2017(counted) if convention == "lu2017" else counted


def show(console: Console, answer: Answer, convention: str) -> None:
    """The layer table, the totals and the scaling, for a person."""
    platform, step, batch = answer.platform, answer.step, answer.network.batch
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    heads = ("layer, ms", "kind", "read", "compute", "write", "forward", "backward")
    cells = [
        [
            layer.name, layer.kind, *map(ms, (layer.forward.read_s, layer.forward.compute_s, layer.forward.write_s)),
            ms(layer.forward.total_s), ms(layer.backward.total_s),
        ]
        for layer in answer.layers
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
        f"{answer.network.model}, batch {batch}, on {platform.device.name}, {platform.precision}, {how}:\n"
        f"forward {ms(step.forward_s)} ms, backward {ms(step.backward_s)} ms, update {ms(step.update_s)} ms, "
        f"{step.samples_per_s:,.0f} images/s training",
        soft_wrap=True,
    )
    if convention == "lu2017":
        console.print("counted as Lu et al. 2017 do: 1 a multiply-add, no backward pass")
    console.print(
        f"forward FLOPs at the peak alone: {ms(answer.peak_s)} ms, {batch / answer.peak_s:,.0f} images/s",
        soft_wrap=True,
    )
    fits = ""
    if platform.device.memory_gb:
        fits = f" of the device's {platform.device.memory_gb:g} GB"
        if answer.memory_bytes > platform.device.memory_gb * 1e9:
            fits += ": it does not fit"
    console.print(f"memory to train: {answer.memory_bytes / 1e9:.3g} GB{fits}", soft_wrap=True)
    for warning in answer.network.warnings:
        console.print(f"warning: {warning}", style="yellow")
    if answer.scaling:
        console.print()
        console.print(_scaling_table(answer.scaling, answer.speedups))


def _scaling_table(steps: Sequence[paleo.StepTime], speedups: Sequence[float]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("workers", "batch", "compute ms", "exchange ms", "step ms", "images/s", "speedup", "efficiency"):
        table.add_column(head, justify="right", no_wrap=True)
    for one, speedup in zip(steps, speedups, strict=True):
        table.add_row(
            str(one.workers), str(one.batch), ms(one.step_s - one.exchange_s), ms(one.exchange_s), ms(one.step_s),
            f"{one.samples_per_s:,.0f}", f"{speedup:.3g}", f"{speedup / one.workers:.0%}",
        )  # fmt: skip
    return table


def ms(seconds: float) -> str:
    """Milliseconds in three digits; a dot for nothing."""
    value = 1e3 * seconds
    if not value:
        return "·"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.3f}"


def scaling_figures(answer: Answer, title: str, scaling: str) -> tuple[Figure, Figure]:
    """Throughput over workers, predicted and ideal, and the parts of a step."""
    steps = answer.scaling or [answer.step]
    workers: list[Cell] = [step.workers for step in steps]
    single = answer.step.samples_per_s
    ideal: dict[str, list[Cell]] = {
        "workers": workers,
        "images/s": [single * step.workers for step in steps],
        "curve": ["ideal"] * len(steps),
    }
    predicted = ideal | {"images/s": [step.samples_per_s for step in steps], "curve": ["predicted"] * len(steps)}
    names = {"x": "workers", "y": "images/s", "series": "curve"}
    throughput = Figure(
        name="throughput",
        title=f"{title}: throughput",
        x=Axis(title="workers", scale="log"),
        y=Axis(title="images/s", scale="log"),
        layers=(
            Layer(mark="line", data=predicted, **names),
            Layer(mark="points", data=predicted, **names),
            Layer(mark="line", data=ideal, **names),
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
        layers=(Layer(mark="bars", data=bars, x="workers", y="ms per step", series="part", stack=True),),
    )
    return throughput, step_parts
