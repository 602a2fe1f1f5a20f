"""Resources that a run used, from its telemetry rows: device-seconds, epochs, energy, idle time and cost."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TelemetryRow = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunUsage:
    """Resources that one run used. A value that was not measured is None, never zero."""

    device_seconds: float
    """Number of devices times the seconds for which the run held them, including waits."""
    epochs: float
    devices_sampled: int
    """Number of devices with at least one row; energy and idle share are for these."""
    energy_j: float | None
    """Energy of whole GPUs in joules; a GPU with several MIG slices is counted once."""
    energy_from: str | None
    """counter (of the GPU), power (integrated over samples), or counter+power."""
    energy_j_per_image: float | None
    idle_share: float | None
    """Share of time in which no kernel ran on the devices; without GPUs, idle share of the host's cores."""
    idle_of: str | None
    """Device of `idle_share`: gpu or cpu."""
    cost: float | None
    """Price of device_seconds, in the currency of the price per hour."""


def account(
    rows: Iterable[TelemetryRow],
    *,
    seconds: float,
    devices: int,
    epochs: float,
    images: int,
    price_per_hour: float = 0.0,
) -> RunUsage:
    """Add up the usage of a run.

    Args:
        rows: rows of telemetry.jsonl, in any order, from all processes and all starts of a resumed run.
        seconds: duration for which the run held its devices, including start-up and evaluation.
        devices: number of ranks that held one.
        images: training images of all ranks.
        price_per_hour: price of one device; 0 means that the cost is not known.
    """
    series = _series(rows)
    gpus = {key: samples for key, samples in series.items() if key[0] == "nvml"}
    energy_j, energy_from = _energy(gpus)
    idle_of = "gpu" if gpus else "cpu"
    idle_share = _idle_share(gpus, "busy_percent") if gpus else _idle_share(series, "cpu_percent")
    return RunUsage(
        device_seconds=seconds * devices,
        epochs=epochs,
        devices_sampled=len({key[2] for key in gpus}),
        energy_j=energy_j,
        energy_from=energy_from,
        energy_j_per_image=energy_j / images if energy_j is not None and images else None,
        idle_share=idle_share,
        idle_of=None if idle_share is None else idle_of,
        cost=seconds * devices / 3600 * price_per_hour if price_per_hour else None,
    )


def _series(rows: Iterable[TelemetryRow]) -> dict[tuple[str, Any, Any], list[TelemetryRow]]:
    """Group rows by (kind, host, device) in time order. If two ranks sampled a device, one rank's rows are used."""
    by_rank: dict[tuple[str, Any, Any], dict[Any, list[TelemetryRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["kind"] in ("nvml", "host"):
            by_rank[row["kind"], row.get("host"), row.get("device")][row.get("rank", 0)].append(row)
    return {key: sorted(max(ranks.values(), key=len), key=lambda row: row["time_s"]) for key, ranks in by_rank.items()}


def _energy(gpus: Mapping[tuple[str, Any, Any], list[TelemetryRow]]) -> tuple[float | None, str | None]:
    """Return joules of all GPUs, and how they were measured."""
    by_gpu: dict[Any, float] = {}
    methods: set[str] = set()
    for (_, host, device), samples in gpus.items():
        metered = [row for row in samples if "energy_j" in row]
        if len(metered) < 2:
            continue
        values = [row["energy_j"] for row in metered]
        # Each start of a run counts from zero: a decrease means that the run was started again.
        used = values[0] + sum(b - a if b >= a else b for a, b in itertools.pairwise(values))
        gpu = (host, metered[0].get("gpu", device))
        by_gpu[gpu] = max(used, by_gpu.get(gpu, 0.0))
        methods |= {row["energy_from"] for row in metered}
    return (sum(by_gpu.values()), "+".join(sorted(methods))) if by_gpu else (None, None)


def _idle_share(series: Mapping[tuple[str, Any, Any], list[TelemetryRow]], field: str) -> float | None:
    """Return the time-weighted mean: a sample counts for the time since the previous sample of the same process."""
    idle_s = total_s = 0.0
    for samples in series.values():
        for previous, row in itertools.pairwise(samples):
            if field in row and row.get("pid") == previous.get("pid"):
                span_s = row["time_s"] - previous["time_s"]
                total_s += span_s
                idle_s += span_s * (1 - row[field] / 100)
    return idle_s / total_s if total_s else None
