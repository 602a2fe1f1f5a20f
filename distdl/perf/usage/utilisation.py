"""How much of a device a training reached: its dense peak, PALEO's best, and what the device itself counted."""

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
"""Fields of telemetry rows, as shares: any kernel running (NVML); multiprocessors, tensor cores and memory (GPM)."""


def bounds(network: Network, device: Device | None, precision: str) -> dict[str, float | None]:
    """What a training step of `network` at its batch asks, and the least time that `device` could take for it.

    Returns:
        flops_per_step; peak_flops_per_s, dense, of the precision in use; best_step_s, PALEO at the whole of the data
        sheet with moving and computing at once. None for a device or a precision whose peak is not known.
    """
    found: dict[str, float | None] = {"flops_per_step": float(network.training_flops)}
    found |= {"peak_flops_per_s": None, "best_step_s": None}
    if device is None:
        return found
    try:
        platform = Platform(device=device, precision=precision, pipelined=True)
    except UserError:
        return found
    best = step(network, platform)
    return found | {"peak_flops_per_s": device.flops_per_s(precision), "best_step_s": best.forward_s + best.backward_s}


def ppp_by_kind(network: Network, by_kind_s: Mapping[str, float], peak_flops_per_s: float) -> dict[str, float]:
    """PALEO's platform percent of peak by kind of layer, as a share: FLOPs over the peak's in its kernels' time.

    Args:
        by_kind_s: seconds a step in the kernels of each kind; kinds without FLOPs of their own have no PPP.
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
    """Means of what the devices counted of themselves in training, and the share of samples by cause of throttling."""
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
    means: dict[str, Any] = {name: sum(own) / len(own) for name, own in values.items()}
    if samples:
        means["throttled"] = {reason: count / samples for reason, count in sorted(throttled.items())}
    return means
