"""`distdl profile MODEL`: the measured time of each layer on this machine, beside PALEO's."""

import json as json_format
from collections.abc import Mapping
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from distdl.cli.paleo import ms
from distdl.core.config import Count, Positive
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.perf.cost.calibration import stored
from distdl.planner.workload import named
from distdl.profiling import layers, timing
from distdl.profiling.counting.count import count
from distdl.profiling.layers import Measured
from distdl.profiling.timing import Seconds


def profile(
    model: tyro.conf.Positional[str],
    *,
    batch: Count = 0,
    on: Literal["auto", "cpu", "cuda"] = "auto",
    device: str = "",
    rounds: Positive = 3,
    json: bool = False,
) -> None:
    """Measure each layer of a network on this machine, forward and backward, beside PALEO's prediction.

    An operator is timed where it runs in a real step, on a GPU by device events, short ones repeated inside one
    measurement; the cost of an empty one is subtracted. The naive way is shown for comparison: a clock and a
    synchronisation around each operator, which the layers' sum then counts once a layer.

    Args:
        model: a network of distdl or torchvision, a profile, or package.module:callable.
        batch: samples; by default a profile's, or 8.
        on: where to run.
        device: what PALEO takes for this machine: a device by name, or the file that distdl calibrate wrote. Without
            it the device that the driver names, and for a processor, ceilings measured now.
        rounds: of each measurement; the median counts.
        json: print a JSON object.
    """
    place = chosen(on)
    subject = named(model)
    batch = batch or (subject.batch if subject.batch > 1 else 8)
    counted = count(subject.module, subject.input_shape, batch, training=True, name=subject.name)
    platform = _platform(device, place)
    network = timing.with_weights(subject.module, place)
    found = layers.measure(network, torch.randn(batch, *subject.input_shape, device=place), rounds=rounds)
    predicted = aligned(paleo.layer_times(counted, platform), found.layers)
    if json:
        print(json_format.dumps(as_dict(counted.model, batch, platform, found, predicted), indent=2))
    else:
        show(PlainConsole(), found, predicted, f"{counted.model}, batch {batch}, on {platform.device.name}")


def chosen(on: str) -> torch.device:
    """The device to run on. Raises UserError for a GPU that is not there."""
    if on == "cuda" and not torch.cuda.is_available():
        raise UserError("--on cuda: torch sees no GPU here (distdl doctor says why)")
    return torch.device("cuda" if on != "cpu" and torch.cuda.is_available() else "cpu")


def _platform(name: str, place: torch.device) -> paleo.Platform:
    if name:
        device = hardware.device(name)
        return paleo.Platform(device=device, calibration=stored(device, "fp32"))
    known = hardware.recognise(torch.cuda.get_device_name(place)) if place.type == "cuda" else None
    return paleo.Platform(device=known or this_machine(place))


def this_machine(place: torch.device) -> hardware.Device:
    """A device whose data sheet is what a matrix product and a copy reach here."""
    flops_per_s, bytes_per_s = timing.ceilings(place, "fp32")
    return hardware.Device(
        name="this machine (measured ceilings)",
        bandwidth_gb_per_s=bytes_per_s / 1e9,
        peak_tflops={"fp32": flops_per_s / 1e12},
    )


def aligned(times: list[paleo.LayerTime], measured: Mapping[str, Seconds]) -> dict[str, Seconds]:
    """Predictions summed by the names that were measured: what a count splits within a module, at the module."""
    sums: dict[str, Seconds] = {}
    for time in times:
        name = time.name
        while name not in measured and "." in name:
            name = name.rpartition(".")[0]
        if name not in measured:
            name = time.name
        spent = Seconds(forward_s=time.forward.total_s, backward_s=time.backward.total_s)
        sums[name] = sums.get(name, Seconds()) + spent
    return sums


def as_dict(
    model: str, batch: int, platform: paleo.Platform, found: Measured, predicted: Mapping[str, Seconds]
) -> dict[str, Any]:
    """What `distdl profile --json` prints."""
    pair = {"forward_s": "forward_s", "backward_s": "backward_s"}

    def both(one: Seconds) -> dict[str, float]:
        return {name: getattr(one, field) for name, field in pair.items()}

    return {
        "model": model,
        "batch": batch,
        "device": platform.device.name,
        "total": both(found.total),
        "layer_sum": both(found.layer_sum),
        "naive_sum": both(found.naive_sum),
        "layers": [
            {"name": name, **both(one), "predicted": both(predicted.get(name, Seconds()))}
            for name, one in found.layers.items()
        ],
    }


def show(console: Console, found: Measured, predicted: Mapping[str, Seconds], title: str) -> None:
    """The table and the three sums, for a person."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(("layer, ms", "forward", "PALEO", "backward", "PALEO")):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for name, one in found.layers.items():
        expected = predicted.get(name, Seconds())
        pairs = ((one.forward_s, expected.forward_s), (one.backward_s, expected.backward_s))
        room = max(console.width - 48, 12)
        shown = name if len(name) <= room else "…" + name[1 - room :]
        table.add_row(shown, *(ms(seconds) for pair in pairs for seconds in pair))
    console.print(table)
    console.print()
    console.print(title)
    sums = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(("ms", "forward", "backward", "both", "of the measured")):
        sums.add_column(head, justify="right" if place else "left")
    paleo_sum = sum(predicted.values(), Seconds())
    rows = {"measured": found.total, "sum of layers": found.layer_sum, "naive sum": found.naive_sum, "PALEO": paleo_sum}
    for name, one in rows.items():
        share = f"{one.step_s / found.total.step_s:.1%}"
        sums.add_row(name, *map(ms, (one.forward_s, one.backward_s, one.step_s)), share)
    console.print(sums)
