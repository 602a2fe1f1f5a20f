"""`distdl profile MODEL`: the measured time of each layer on this machine, next to PALEO's prediction."""

import json as json_format
from collections.abc import Mapping
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from distdl.cli.paleo import ms
from distdl.core.config import ComponentOptions, Count, Positive
from distdl.core.console import PlainConsole
from distdl.core.registry import NO_OPTIONS
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.perf.cost.calibration import stored
from distdl.planner.workload import named
from distdl.profiling import layers, timing
from distdl.profiling.comparison import platform, predicted_seconds, select_device
from distdl.profiling.counting.count import count
from distdl.profiling.layers import Measured
from distdl.profiling.timing import PassTimes


def profile(
    model: tyro.conf.Positional[str],
    *,
    batch: Count = 0,
    on: Literal["auto", "cpu", "cuda"] = "auto",
    device: str = "",
    rounds: Positive = 3,
    options: ComponentOptions = NO_OPTIONS,
    json: bool = False,
) -> None:
    """Measure each layer of a network on this machine, forward and backward, and show PALEO's prediction.

    An operator is timed as it runs in a real step, on a GPU by device events, short ones repeated inside one
    measurement; the cost of an empty one is subtracted. For comparison the naive method is shown too: a clock and a
    synchronization around each operator, whose overhead is then part of the sum of the layers.

    Args:
        model: a network of distdl or torchvision, a profile, or package.module:callable.
        batch: samples; by default a profile's, or 8.
        on: device to run on.
        device: PALEO's data sheet for this machine: a device by name, or a file written by distdl calibrate. By default
            the device that the driver names; for a processor, ceilings measured now.
        rounds: repetitions of each measurement; the median is used.
        options: settings of a network of another package, model.NAME=VALUE.
        json: print a JSON object.
    """
    place = select_device(on)
    subject = named(model, options=options)
    batch = batch or (subject.batch if subject.batch > 1 else 8)
    counted = count(subject.module, subject.input_shape, batch, training=True, name=subject.name)
    target = _platform(device) if device else platform(place)
    network = timing.with_weights(subject.module, place)
    times = layers.measure(network, torch.randn(batch, *subject.input_shape, device=place), rounds=rounds)
    predicted = predicted_seconds(paleo.layer_times(counted, target), times.layers)
    if json:
        print(json_format.dumps(as_dict(counted.model, batch, target, times, predicted), indent=2))
    else:
        show(PlainConsole(), times, predicted, f"{counted.model}, batch {batch}, on {target.device.name}")


def _platform(name: str) -> paleo.Platform:
    device = hardware.device(name)
    return paleo.Platform(device=device, calibration=stored(device, "fp32"))


def as_dict(
    model: str, batch: int, target: paleo.Platform, times: Measured, predicted: Mapping[str, PassTimes]
) -> dict[str, Any]:
    """The JSON of `distdl profile --json`."""
    pair = {"forward_s": "forward_s", "backward_s": "backward_s"}

    def both(seconds: PassTimes) -> dict[str, float]:
        return {name: getattr(seconds, field) for name, field in pair.items()}

    return {
        "model": model,
        "batch": batch,
        "device": target.device.name,
        "total": both(times.total),
        "layer_sum": both(times.layer_sum),
        "naive_sum": both(times.naive_sum),
        "layers": [
            {"name": name, **both(seconds), "predicted": both(predicted.get(name, PassTimes()))}
            for name, seconds in times.layers.items()
        ],
    }


def show(console: Console, times: Measured, predicted: Mapping[str, PassTimes], title: str) -> None:
    """Print the table and the sums."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(("layer, ms", "forward", "PALEO", "backward", "PALEO")):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for name, seconds in times.layers.items():
        expected = predicted.get(name, PassTimes())
        pairs = ((seconds.forward_s, expected.forward_s), (seconds.backward_s, expected.backward_s))
        room = max(console.width - 48, 12)
        label = name if len(name) <= room else "…" + name[1 - room :]
        table.add_row(label, *(ms(value) for pair in pairs for value in pair))
    console.print(table)
    console.print()
    console.print(title)
    sums = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(("ms", "forward", "backward", "both", "of the measured")):
        sums.add_column(head, justify="right" if place else "left")
    paleo_sum = sum(predicted.values(), PassTimes())
    rows = {"measured": times.total, "sum of layers": times.layer_sum, "naive sum": times.naive_sum, "PALEO": paleo_sum}
    for name, seconds in rows.items():
        share = f"{seconds.step_s / times.total.step_s:.1%}"
        sums.add_row(name, *map(ms, (seconds.forward_s, seconds.backward_s, seconds.step_s)), share)
    console.print(sums)
