"""What a run cost: device-seconds, epochs, energy, idle time and money, from its telemetry rows."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Account:
    """What one run used. None where nothing measured it: a missing figure is never a zero."""

    device_seconds: float
    """Devices times the seconds for which the run held them, waiting included."""
    epochs: float
    devices_sampled: int
    """Devices with a row at least; energy and idle share are theirs alone."""
    energy_j: float | None
    """Of whole GPUs: slices of one GPU share its energy, which is counted once."""
    energy_from: str | None
    """counter (the GPU's own), power (integrated from samples), or counter+power."""
    energy_j_per_image: float | None
    idle_share: float | None
    """Share of time without any kernel on the devices; without GPUs, of the host's cores without work."""
    idle_of: str | None
    """gpu or cpu."""
    cost: float | None
    """device_seconds at the price of a device for an hour, in the price's currency."""


def account(
    rows: Iterable[Row], *, seconds: float, devices: int, epochs: float, images: int, price_per_hour: float = 0.0
) -> Account:
    """Add up a run.

    Args:
        rows: of telemetry.jsonl, in any order, of several processes, and of several starts of a resumed run.
        seconds: for which the run held its devices, start-up and evaluation included.
        devices: ranks that held one.
        images: trained on, by all ranks.
        price_per_hour: of one device; 0 gives no cost.
    """
    series = _series(rows)
    gpus = {key: own for key, own in series.items() if key[0] == "nvml"}
    energy_j, energy_from = _energy(gpus)
    idle_of = "gpu" if gpus else "cpu"
    idle_share = _idle_share(gpus, "busy_percent") if gpus else _idle_share(series, "cpu_percent")
    return Account(
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


def _series(rows: Iterable[Row]) -> dict[tuple[str, Any, Any], list[Row]]:
    """Rows by (kind, host, device) in time order; of a device that two ranks sampled, one rank's rows."""
    by_rank: dict[tuple[str, Any, Any], dict[Any, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["kind"] in ("nvml", "host"):
            by_rank[row["kind"], row.get("host"), row.get("device")][row.get("rank", 0)].append(row)
    return {key: sorted(max(ranks.values(), key=len), key=lambda row: row["time_s"]) for key, ranks in by_rank.items()}


def _energy(gpus: Mapping[tuple[str, Any, Any], list[Row]]) -> tuple[float | None, str | None]:
    whole: dict[Any, float] = {}
    ways: set[str] = set()
    for (_, host, device), own in gpus.items():
        metered = [row for row in own if "energy_j" in row]
        if len(metered) < 2:
            continue
        values = [row["energy_j"] for row in metered]
        # Each start of a run counts from zero again: a fall is the beginning of another start.
        used = values[0] + sum(b - a if b >= a else b for a, b in itertools.pairwise(values))
        gpu = (host, metered[0].get("gpu", device))
        whole[gpu] = max(used, whole.get(gpu, 0.0))
        ways |= {row["energy_from"] for row in metered}
    return (sum(whole.values()), "+".join(sorted(ways))) if whole else (None, None)


def _idle_share(series: Mapping[tuple[str, Any, Any], list[Row]], field: str) -> float | None:
    """Time-weighted: each sample speaks for the time since the one before it, of the same process."""
    idle_s = total_s = 0.0
    for own in series.values():
        for before, row in itertools.pairwise(own):
            if field in row and row.get("pid") == before.get("pid"):
                span_s = row["time_s"] - before["time_s"]
                total_s += span_s
                idle_s += span_s * (1 - row[field] / 100)
    return idle_s / total_s if total_s else None
