"""`distdl calibrate FILE.toml`: measure this machine and write a device file that predicts any network on it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
import torch
import tyro

from distdl.core.config import FilePath, Positive, Precision
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.perf import hardware
from distdl.perf.cost import calibration
from distdl.perf.cost.calibration import PASSES, Calibration, Observation
from distdl.perf.cost.layers import Layer, Network
from distdl.profiling import layers, timing
from distdl.profiling.comparison import select_device
from distdl.profiling.counting.count import count
from distdl.profiling.layers import Measured
from distdl.profiling.probe_networks import PROBES


def calibrate(
    file: tyro.conf.Positional[FilePath],
    *,
    on: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "fp32",
    batches: tuple[Positive, ...] = (),
    rounds: Positive = 3,
) -> None:
    """Measure this machine and write a device file: its ceilings, and fitted rates by kind of layer.

    Ceilings are those of a large matrix product and of a large copy. Layers are those of fifteen synthetic networks,
    each timed inside a training step. `distdl paleo --device FILE` then predicts other networks, and with --device
    FILE `distdl profile` and `distdl explain` compare with it. An existing file keeps its other precisions.

    Args:
        file: the file to write, ending in .toml.
        on: device to run on.
        precision: precision of matrix products.
        batches: samples per step; default: 4 on a CPU, 16 and 64 on a GPU.
        rounds: repetitions of each measurement; the median is used.
    """
    if file.suffix != ".toml":
        raise UserError(f'{file}: name the file with the ending ".toml"')
    place = select_device(on)
    console = PlainConsole()
    flops_per_s, bytes_per_s = timing.ceilings(place, precision)
    console.print(f"product {flops_per_s / 1e12:.3g} TFLOP/s, copy {bytes_per_s / 1e9:.3g} GB/s")
    sizes = batches or ((16, 64) if place.type == "cuda" else (4,))
    probes: list[tuple[Network, Measured]] = []
    for name, network, times in measured(place, precision, sizes, rounds):
        probes.append((network, times))
        console.print(f"{name}, batch {network.batch}: {1e3 * times.total.step_s:,.0f} ms per step")
    # On a busy machine a layer may reach more than the measured ceiling.
    flops_per_s = max(flops_per_s, *(fastest(network, times) for network, times in probes))
    device = _device(file, place, precision, flops_per_s, bytes_per_s)
    observations = [
        observation for network, times in probes for observation in observed(network, times, device, precision)
    ]
    fitted = calibration.fit_by_kind(observations)
    share = ppp(observations)
    stored = {"ppp": round(share, 4), **calibration.to_store(fitted)}
    table = device_table(device) | {"calibration": {**device.calibration, precision: stored}}
    head = f"# Measured by distdl calibrate on {time.strftime('%Y-%m-%d')}, torch {torch.__version__}.\n"
    write_atomic(file, lambda sink: sink.write((head + tomli_w.dumps(table)).encode()))
    console.print(f"{len(observations)} layer times, PPP {share:.0%}; written to {file}")


def measured(
    place: torch.device, precision: str, batches: Sequence[int], rounds: int
) -> Iterator[tuple[str, Network, Measured]]:
    """Each probe at each batch: its name, its layers, its times."""
    for name, (make, size) in PROBES.items():
        for batch in batches:
            torch.manual_seed(0)
            network = make()
            network(torch.zeros(1, 3, size, size))  # lazy layers learn their sizes
            counted = count(network, (3, size, size), batch=batch, training=True, name=name)
            images = torch.randn(batch, 3, size, size, device=place)
            with arithmetic(place, precision):
                yield name, counted, layers.measure(network.to(place), images, rounds=rounds, naive=False)


def arithmetic(place: torch.device, precision: str) -> Any:
    """Context in which matrix products of a training step run at a precision."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    return torch.autocast(place.type, dtype, enabled=dtype != torch.float32)


def observed(network: Network, times: Measured, device: hardware.Device, precision: str) -> list[Observation]:
    """The times of a network's layers, each with the rows of its table.

    Time that belongs to no row, such as sums of gradients and Python between layers, is distributed among the layers,
    so that they add up to the whole pass.
    """
    rows: dict[str, list[Layer]] = {}
    for layer in network.layers:
        rows.setdefault(layer.name, []).append(layer)
    observations = []
    for when in PASSES:
        spent_s = {name: getattr(seconds, f"{when}_s") for name, seconds in times.layers.items() if name in rows}
        scale = getattr(times.total, f"{when}_s") / sum(spent_s.values())
        observations += [
            Observation(layers=rows[name], device=device, when=when, seconds=scale * seconds, precision=precision)
            for name, seconds in spent_s.items()
            if seconds > 0
        ]
    return observations


def fastest(network: Network, times: Measured) -> float:
    """Highest FLOP/s of the forward pass of any layer."""
    rates = [
        layer.forward_flops / times.layers[layer.name].forward_s
        for layer in network.layers
        if layer.name in times.layers and times.layers[layer.name].forward_s > 0
    ]
    return max(rates, default=0.0)


def ppp(observations: Sequence[Observation]) -> float:
    """PALEO's percentage for these layers: their time at the ceilings over their measured time."""
    ideal = Calibration(
        form=tuple(calibration.Coefficient(term=term) for term in ("compute", "traffic")), values=(1.0, 1.0)
    )
    best = sum(
        ideal.seconds(observation.layers, observation.device, observation.when, observation.precision)
        for observation in observations
    )
    return best / sum(observation.seconds for observation in observations)


def _device(file: Path, place: torch.device, precision: str, flops_per_s: float, bytes_per_s: float) -> hardware.Device:
    """This machine: the content of the file, with the ceilings measured now."""
    previous = hardware.device(str(file)) if file.is_file() else None
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "processor"
    peaks = dict(previous.peak_tflops) if previous else {}
    return hardware.Device(
        name=name,
        names=(name,) if place.type == "cuda" else (),
        bandwidth_gb_per_s=previous.bandwidth_gb_per_s if previous else bytes_per_s / 1e9,
        peak_tflops=peaks | {precision: flops_per_s / 1e12},
        calibration=previous.calibration if previous else {},
    )


def device_table(device: hardware.Device) -> dict[str, Any]:
    """A device as the TOML that `hardware.device` reads, calibrations aside."""
    return {
        "name": device.name,
        "names": list(device.names),
        "bandwidth_gb_per_s": device.bandwidth_gb_per_s,
        "peak_tflops": dict(device.peak_tflops),
    }
