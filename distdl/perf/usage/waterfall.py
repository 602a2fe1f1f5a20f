"""Where a run's time went: from what the device could do to what the run did, in parts that add up to the whole.

    peak -> PALEO's best for these layers -> kernels as measured -> launch and host gaps -> input stalls
         -> exposed communication -> evaluation, checkpoints, start-up, the rest

Each part is the time that its level adds to the one before, in seconds of rank 0's device over the whole run. What was
not measured is not guessed: its level is left out, and its time is part of the next one, whose text says so.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

COMPUTE = ("forward", "backward", "update")
"""Phases in which the device works on the network itself."""
WHAT = {
    "peak": "FLOPs at the dense peak",
    "layers": "these layers' shapes, at best",
    "kernels": "kernels slower than that",
    "kernels and gaps": "slower than that, and gaps",
    "gaps": "launches, Python between them",
    "compute": "forward, backward, update",
    "loop": "the host between steps",
    "input": "loader, copies, augmentation",
    "exchange": "gradients, beyond backward",
    "evaluate": "evaluation",
    "checkpoint": "waiting for checkpoints",
    "start": "imports, data, build, warm-up",
}
WORK = ("peak", "compute")
"""The parts that are no loss."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One step of the waterfall."""

    name: str
    seconds: float
    share: float
    """Of the whole."""
    what: str


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """A run's time, in parts."""

    parts: tuple[Part, ...]
    whole_s: float
    """From the start of the process to the end of the run, over all its starts."""
    unaccounted: float
    """Share of the whole that no part explains, negative where the parts are more than the whole."""
    mfu: float | None
    """Share of the device's dense peak that the training steps alone reach; None for an unknown device."""
    largest: str
    """The part that costs the most, the work itself aside."""
    remedy: str
    """What would mend it."""

    def as_dict(self) -> dict[str, Any]:
        """What `distdl explain --json` prints."""
        return asdict(self)


def waterfall(result: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Waterfall:
    """Break a run's time down.

    Args:
        result: of result.json: device, steps, train_s, evaluate_s, checkpoint_s, start_s, held_s, phases_s; and, where
            they are known, warm_s (part of train_s), flops_per_step (of one rank), peak_flops_per_s, best_step_s
            (PALEO, at the device's peaks), kernel_step_s.
        config: of config.toml; the remedy does not propose what is on already.
    Raises:
        KeyError: a time is missing.
    """
    phases, whole_s = result["phases_s"], result["held_s"]
    on_gpu = result["device"] == "cuda"
    warm_s = result.get("warm_s", 0.0)
    compute_s = max(sum(phases[name] for name in COMPUTE) - warm_s, 0.0)
    on_device_s = sum(seconds for name, seconds in phases.items() if name != "data" or not on_gpu)
    # A GPU works while the host waits for data: only what its own timeline leaves free is a stall.
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
        Part(name=name, seconds=value, share=value / whole_s if whole_s else 0.0, what=WHAT[name])
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
    """Model FLOPs utilisation: FLOPs of a step over what the device's dense peak does in a step's time, warm-up aside.

    None for a device whose peak is not known: a wrong peak is worse than none (torchtitan#668, nanoGPT PR 464).
    """
    peak, flops = result.get("peak_flops_per_s"), result.get("flops_per_step")
    train_s = result["train_s"] - result.get("warm_s", 0.0)
    return flops * result["steps"] / (peak * train_s) if peak and flops and train_s > 0 else None


def _compute_parts(result: Mapping[str, Any], compute_s: float) -> list[tuple[str, float]]:
    """The compute phases in parts, from the peak upwards; a level that nobody measured leaves its time to the next.

    A level above the one after it (a kernel that fuses layers moves fewer bytes than PALEO's best) is cut to it.
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
    reached = list(itertools.accumulate((seconds for _, seconds in reversed(known)), min))[::-1]
    return [(name, after - before) for (name, _), before, after in zip(known, [0.0, *reached], reached, strict=False)]


def remedy(part: str, config: Mapping[str, Any]) -> str:
    """What would make a part smaller, as options of distdl.train that the run did not use."""
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
        resident = "" if data.get("loader") == "resident" else "--data.loader resident where the set fits in memory, "
        return resident + "--data.loader dali, or more --data.workers: distdl data bench tells which part is slow"
    return {
        "layers": "little, for this network on this device: --compute.compile fuses layers, --compute.precision bf16 "
        "halves their traffic",
        "loop": "a larger --data.batch-size makes steps fewer; --progress none and --log-every-s 10 make them cheaper",
        "exchange": "a larger --data.batch-size exchanges less often; --ddp.compress bf16 sends half",
        "evaluate": "--evaluate-every N",
        "checkpoint": "--checkpoint.every-epochs N",
        "start": "nothing that a longer run does not: it is paid once",
    }[part]
