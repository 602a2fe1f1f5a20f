"""Utilization of a device by a training: its dense peak, PALEO's bound, and the counters of the device."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from distdl.core.errors import UserError
from distdl.perf.cost.layers import Network
from distdl.perf.cost.paleo import Platform, step
from distdl.perf.hardware import Device

COUNTED = {
    "busy_percent": "busy",
    "sm_active_percent": "sm_active",
    "tensor_active_percent": "tensor_active",
    "dram_active_percent": "dram_active",
}
"""Name of each counter by field of a telemetry row: any kernel running (NVML); multiprocessors, tensor cores and memory
in use (GPM)."""


def bounds(network: Network, device: Device | None, precision: str) -> dict[str, float | None]:
    """Compute the FLOPs of a training step of `network` at its batch size, and a lower bound of its time on `device`.

    Returns:
        flops_per_step; peak_flops_per_s, the dense peak at this precision; best_step_s, PALEO's time in seconds at the
        full rates of the data sheet, with transfers and compute overlapped. The last two are None if the peak of the
        device at this precision is not known.
    """
    limits: dict[str, float | None] = {"flops_per_step": float(network.training_flops)}
    limits |= {"peak_flops_per_s": None, "best_step_s": None}
    if device is None:
        return limits
    try:
        platform = Platform(device=device, precision=precision, pipelined=True)
    except UserError:
        return limits
    best = step(network, platform)
    return limits | {"peak_flops_per_s": device.flops_per_s(precision), "best_step_s": best.forward_s + best.backward_s}


def ppp_by_kind(network: Network, by_kind_s: Mapping[str, float], peak_flops_per_s: float) -> dict[str, float]:
    """Compute PALEO's platform percent of peak per kind of layer, as a share: achieved FLOP/s / peak FLOP/s.

    Args:
        by_kind_s: seconds per step in the kernels of each kind; kinds without FLOPs have no PPP.
    """
    flops: dict[str, float] = defaultdict(float)
    for layer in network.layers:
        flops[layer.kind] += layer.training_flops
    return {
        kind: flops[kind] / (peak_flops_per_s * seconds)
        for kind, seconds in by_kind_s.items()
        if seconds > 0 and flops.get(kind)
    }


def counted(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute the means of the device counters during training, and the share of throttled samples by cause.

    Args:
        rows: rows of telemetry.jsonl.
    """
    values: dict[str, list[float]] = defaultdict(list)
    throttled: dict[str, int] = defaultdict(int)
    samples = 0
    for row in rows:
        if row["kind"] != "nvml" or not row["step"]:
            continue
        for field, name in COUNTED.items():
            if field in row:
                values[name].append(row[field] / 100)
        samples += "throttle" in row
        for reason in row.get("throttle", ()):
            throttled[reason] += 1
    means: dict[str, Any] = {name: sum(shares) / len(shares) for name, shares in values.items()}
    if samples:
        means["throttled"] = {reason: count / samples for reason, count in sorted(throttled.items())}
    return means
