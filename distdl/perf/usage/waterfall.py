"""Waterfall of a run's time, from the device's peak to the measured time, in parts that add up to the total.

    peak -> PALEO's bound for these layers -> measured kernels -> launch and host gaps -> input stalls
         -> exposed communication -> evaluation, checkpoints, start-up, other

Each part is the time that its level adds to the previous one, in seconds of rank 0's device over the whole run. A level
that was not measured is omitted instead of estimated; its time is in the next part, whose description covers both.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

COMPUTE = ("forward", "backward", "update")
"""Phases in which the device computes the network."""
DESCRIPTIONS = {
    "peak": "FLOPs at the dense peak",
    "layers": "bound by these layers' shapes",
    "kernels": "kernels above that bound",
    "kernels and gaps": "above that bound, and gaps",
    "gaps": "launches, Python in between",
    "compute": "forward, backward, update",
    "loop": "host between steps",
    "input": "loader, copies, augmentation",
    "exchange": "gradients, beyond backward",
    "evaluate": "evaluation",
    "checkpoint": "waiting for checkpoints",
    "start": "imports, data, build, warm-up",
}
WORK = ("peak", "compute")
"""The parts that are not losses."""


@dataclass(frozen=True, kw_only=True)
class TimePart:
    """One level of the waterfall."""

    name: str
    seconds: float
    share: float
    """Share of the total time."""
    what: str
    """Description."""


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """Time of a run, in parts."""

    parts: tuple[TimePart, ...]
    whole_s: float
    """Total time in seconds from the start of the process to the end of the run, over all starts."""
    unaccounted: float
    """Share of the total time that is in no part; negative if the parts add up to more than the total."""
    mfu: float | None
    """Model FLOPs utilization of training steps, see `mfu`; None for an unknown device."""
    largest: str
    """Name of the largest part that is not in WORK."""
    remedy: str
    """Options that would reduce this part."""

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `distdl explain --json` prints."""
        return asdict(self)


def waterfall(result: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Waterfall:
    """Divide the time of a run into parts.

    Args:
        result: fields of result.json: device, steps, train_s, evaluate_s, checkpoint_s, start_s, held_s, phases_s; if
            known, warm_s (part of train_s), flops_per_step (of one rank), peak_flops_per_s, best_step_s (PALEO, at the
            peaks of the device), kernel_step_s.
        config: fields of config.toml; the remedy omits options that are already on.
    Raises:
        KeyError: a time is missing.
    """
    phases, whole_s = result["phases_s"], result["held_s"]
    on_gpu = result["device"] == "cuda"
    warm_s = result.get("warm_s", 0.0)
    compute_s = max(sum(phases[name] for name in COMPUTE) - warm_s, 0.0)
    on_device_s = sum(seconds for name, seconds in phases.items() if name != "data" or not on_gpu)
    # A GPU can compute while the host waits for data: only the time in which the GPU is idle is a stall.
    free_s = max(result["train_s"] - on_device_s, 0.0)
    stalled_s = min(phases["data"], free_s) if on_gpu else phases["data"]
    seconds = dict(_compute_parts(result, compute_s)) | {
        "loop": free_s - stalled_s if on_gpu else free_s,
        "input": stalled_s + phases["transfer"],
        "exchange": phases["exchange"],
        "evaluate": result["evaluate_s"],
        "checkpoint": result["checkpoint_s"],
        "start": result["start_s"] + warm_s,
    }
    parts = tuple(
        TimePart(name=name, seconds=value, share=value / whole_s if whole_s else 0.0, what=DESCRIPTIONS[name])
        for name, value in seconds.items()
    )
    losses = [part for part in parts if part.name not in WORK]
    largest = max(losses, key=lambda part: part.seconds).name
    return Waterfall(
        parts=parts,
        whole_s=whole_s,
        unaccounted=1 - sum(part.share for part in parts),
        mfu=mfu(result),
        largest=largest,
        remedy=remedy(largest, config or {}),
    )


def mfu(result: Mapping[str, Any]) -> float | None:
    """Compute the model FLOPs utilization (MFU): achieved FLOP/s / dense peak FLOP/s, without warm-up.

    None for a device whose peak is not known: a wrong peak is worse than none (torchtitan#668, nanoGPT PR 464).
    """
    peak, flops = result.get("peak_flops_per_s"), result.get("flops_per_step")
    train_s = result["train_s"] - result.get("warm_s", 0.0)
    return flops * result["steps"] / (peak * train_s) if peak and flops and train_s > 0 else None


def _compute_parts(result: Mapping[str, Any], compute_s: float) -> list[tuple[str, float]]:
    """Divide the compute phases into parts, from the peak upwards. A level that was not measured is in the next part.

    A level that exceeds the next one is reduced to it: a kernel that fuses layers can be faster than PALEO's bound.
    """
    steps, peak, flops = result["steps"], result.get("peak_flops_per_s"), result.get("flops_per_step")
    best, kernel = result.get("best_step_s"), result.get("kernel_step_s")
    levels = [
        ("peak", flops * steps / peak if peak and flops else None),
        ("layers", None if best is None else best * steps),
        ("kernels", None if kernel is None else kernel * steps),
        ("gaps" if kernel is not None else "kernels and gaps", compute_s),
    ]
    known = [(name, seconds) for name, seconds in levels if seconds is not None]
    if known[0][0] != "peak":
        known[0] = ("compute", known[0][1])
    ends = list(itertools.accumulate((seconds for _, seconds in reversed(known)), min))[::-1]
    return [(name, end - start) for (name, _), start, end in zip(known, [0.0, *ends], ends, strict=False)]


def remedy(part: str, config: Mapping[str, Any]) -> str:
    """Return options that the run did not use and that would reduce a part's time."""
    compute, data = config.get("compute", {}), config.get("data", {})
    if part in ("kernels", "kernels and gaps"):
        options = [
            "--compute.precision bf16" if compute.get("precision", "fp32") in ("fp32", "tf32") else "",
            "" if compute.get("channels_last") else "--compute.channels-last",
            "" if compute.get("compile") else "--compute.compile",
        ]
        return " ".join(filter(None, options)) or "a larger --data.batch-size gives each kernel more work"
    if part == "gaps":
        if not compute.get("compile"):
            return "--compute.compile, or a larger --data.batch-size"
        graphs = "" if compute.get("cuda_graphs") else "--compute.cuda-graphs --data.drop-last, or "
        return graphs + "a larger --data.batch-size"
    if part == "input":
        resident = "" if data.get("loader") == "resident" else "--data.loader resident if the set fits in memory, "
        return resident + "--data.loader dali, or more --data.workers: distdl data bench shows which part is slow"
    return {
        "layers": "little, for this network on this device: --compute.compile fuses layers, --compute.precision bf16 "
        "halves their traffic",
        "loop": "a larger --data.batch-size means fewer steps; --progress none and --log-every-s 10 make them cheaper",
        "exchange": "a larger --data.batch-size exchanges less often; --ddp.compress bf16 halves the traffic",
        "evaluate": "--evaluate-every N",
        "checkpoint": "--checkpoint.every-epochs N",
        "start": "none needed: it occurs once, and its share shrinks in a longer run",
    }[part]
