"""Explanation of a run's waterfall in sentences: speed and MFU, device counters, the largest loss and its remedy."""

from collections.abc import Mapping
from typing import Any

from distdl.perf.usage.waterfall import Waterfall
from distdl.runtime.cores import BUSY

COUNTERS = ("busy", "sm_active", "tensor_active", "dram_active")
"""Device counters in `utilisation` of result.json, as shares of the time."""


def sentences(waterfall: Waterfall, result: Mapping[str, Any]) -> list[str]:
    """Return conclusions from a run's waterfall and its result.json."""
    used = result.get("utilisation") or {}
    lines = [
        _replayed(result),
        _achieved(waterfall, result),
        _counters(used),
        _percent_of_peak(used),
        _busy_cores(result),
        *_largest_loss(waterfall),
    ]
    if any(part.name in ("kernels and gaps", "compute") for part in waterfall.parts) and "kernel_step_s" not in result:
        lines.append("Run with --telemetry.profile-steps 5 to separate kernel time from the gaps between kernels.")
    return [line for line in lines if line]


def _replayed(result: Mapping[str, Any]) -> str:
    if not result.get("ps", {}).get("replayed"):
        return ""
    return "Compute was replayed: the run waited for its recorded time. Only communication is measured in this run."


def _achieved(waterfall: Waterfall, result: Mapping[str, Any]) -> str:
    flops = result.get("flops_per_step")
    if not flops:
        return ""
    if waterfall.mfu is None:
        mfu = "the peak of the device is not known"
    else:
        used = result.get("utilisation") or {}
        peak = f"{result['peak_flops_per_s'] / 1e12:.4g} TFLOP/s ({used.get('device')}, {used.get('precision')}, dense)"
        mfu = f"MFU {waterfall.mfu:.1%} of {peak}"
    return f"{flops * result['steps'] / result['train_s'] / 1e12:.3g} TFLOP/s achieved in training, {mfu}."


def _counters(used: Mapping[str, Any]) -> str:
    shares = [f"{name.replace('_', ' ')} {used[name]:.0%}" for name in COUNTERS if used.get(name) is not None]
    return f"Device counters: {', '.join(shares)}." if shares else ""


def _percent_of_peak(used: Mapping[str, Any]) -> str:
    by_kind = used.get("ppp_by_kind") or {}
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in by_kind.items())
    return f"Percent of peak by kind of layer: {shares}." if shares else ""


def _busy_cores(result: Mapping[str, Any]) -> str:
    busy = result.get("cores_busy_at_start", 0.0)
    if result.get("device") != "cpu" or busy < BUSY:
        return ""
    return (
        f"Other programs kept {busy:.1f} cores busy when the run started, which slowed compute, exchange and data. "
        "Run it on an idle machine, or with a smaller --compute.threads."
    )


def _largest_loss(waterfall: Waterfall) -> tuple[str, str]:
    largest = next(part for part in waterfall.parts if part.name == waterfall.largest)
    return (
        f"The largest loss is {largest.name}, {largest.share:.1%}: {largest.what}.",
        f"Remedy: {waterfall.remedy}.",
    )
