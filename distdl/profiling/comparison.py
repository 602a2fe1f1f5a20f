"""Comparison of PALEO's predictions with the measured layers of a network on the same device."""

from collections.abc import Iterable, Mapping

import torch

from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.profiling import timing
from distdl.profiling.timing import PassTimes


def select_device(on: str) -> torch.device:
    """Return the device to run on: "cpu", "cuda", or "auto" for a GPU if there is one.

    Raises:
        UserError: `on` is "cuda" and there is no GPU.
    """
    if on == "cuda" and not torch.cuda.is_available():
        raise UserError("--on cuda: torch finds no GPU (distdl doctor shows the reason)")
    return torch.device("cuda" if on != "cpu" and torch.cuda.is_available() else "cpu")


def platform(device: torch.device) -> paleo.Platform:
    """Return the data sheet of a known GPU; otherwise measure the throughput of a matrix product and of a copy."""
    known = hardware.recognize(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return paleo.Platform(device=known or _measured_device(device))


def _measured_device(device: torch.device) -> hardware.Device:
    flops_per_s, bytes_per_s = timing.ceilings(device, "fp32")
    return hardware.Device(
        name="this machine (measured ceilings)",
        bandwidth_gb_per_s=bytes_per_s / 1e9,
        peak_tflops={"fp32": flops_per_s / 1e12},
    )


def predicted_seconds(times: Iterable[paleo.LayerTime], measured: Mapping[str, PassTimes]) -> dict[str, PassTimes]:
    """Sum predictions by measured module: a layer inside a measured module is added to that module."""
    sums: dict[str, PassTimes] = {}
    for time in times:
        name = time.name
        while name not in measured and "." in name:
            name = name.rpartition(".")[0]
        if name not in measured:
            name = time.name
        seconds = PassTimes(forward_s=time.forward.total_s, backward_s=time.backward.total_s)
        sums[name] = sums.get(name, PassTimes()) + seconds
    return sums
