"""Time, energy, cost and utilisation of a run for result.json, from the sampled rows."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distdl.core.errors import reason
from distdl.core.files import read_rows
from distdl.core.run_files import TELEMETRY
from distdl.perf.hardware import recognize
from distdl.perf.usage.utilisation import bounds, counted, ppp_by_kind
from distdl.perf.usage.waterfall import mfu
from distdl.profiling.counting.count import count
from distdl.runtime import cores
from distdl.telemetry.accounting import account
from distdl.training.events import Training


def telemetry_rows(run: Path) -> list[dict[str, Any]]:
    """All samples of a run, of every host."""
    return [row for file in sorted(run.glob(f"{Path(TELEMETRY).stem}*.jsonl")) for row in read_rows(file)]


def outcome(trainer: Training, *, held_s: float) -> dict[str, Any]:
    """Return times, `accounting.Account` and `utilisation`, for result.json.

    Args:
        held_s: seconds for which the run held its devices, over all its starts.
    """
    add_up = partial(
        account,
        seconds=held_s,
        devices=trainer.world.size,
        epochs=trainer.position,
        images=trainer.progress.images,
        price_per_hour=trainer.config.telemetry.price_per_hour,
    )
    try:
        rows = telemetry_rows(trainer.run.path)
        used = add_up(rows)
    except Exception as error:  # an earlier start may have left damaged rows; the training itself has succeeded
        trainer.events.warn(trainer, f"the samples of telemetry.jsonl cannot be added up: {reason(error)}")
        rows, used = [], add_up([])
    times = {
        "start_s": trainer.seconds.get("start", 0.0),
        "warm_s": trainer.seconds.get("warm", 0.0),
        "held_s": held_s,
        "cores_busy_at_start": round(cores.busy_at_start(), 2),
    }
    spent = {name: value for name, value in asdict(used).items() if name != "epochs"}
    return times | spent | _utilisation(trainer, rows, times["warm_s"])


def _utilisation(trainer: Training, rows: list[dict[str, Any]], warm_s: float) -> dict[str, Any]:
    """FLOPs of a step of this rank, the bounds of the device, and `utilisation`: the share of the bounds reached."""
    compute, progress, device = trainer.config.compute, trainer.progress, trainer.world.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    used: dict[str, Any] = {"device": name, "precision": compute.precision, **counted(rows)}
    size = trainer.config.data.image_size or trainer.dataset.image_size
    shape = (trainer.dataset.channels, size, size)
    try:
        network = count(trainer.model, shape, trainer.config.data.rank_samples(trainer.world.size), training=True)
    except Exception as error:  # a network whose FLOPs cannot be counted has been trained nevertheless
        trainer.events.warn(trainer, f"the FLOPs of a step are not known: {error}")
        return {"utilisation": used}
    limits = bounds(network, recognize(name) if name else None, compute.precision)
    kernels = next((row for row in reversed(rows) if row["kind"] == "kernels"), None)
    if kernels:
        limits["kernel_step_s"] = kernels["kernel_s"]
        used["kernel_s_by_kind"] = kernels["by_kind_s"]
        if limits["peak_flops_per_s"]:
            used["ppp_by_kind"] = ppp_by_kind(network, kernels["by_kind_s"], limits["peak_flops_per_s"])
    times = {"steps": progress.step, "train_s": progress.elapsed_s, "warm_s": warm_s}
    return limits | {"utilisation": used | {"mfu": mfu(limits | times)}}
