"""What the devices and the host did while a run trained: a figure for each kind of counter that was there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from distdl.core.format import Cell
from distdl.report import schema
from distdl.report.content import Axis, Figure, Layer, Section
from distdl.report.schema import number

if TYPE_CHECKING:
    from distdl.report.run_folder import Row, Run


class Group(NamedTuple):
    """Counters of one unit that share a figure."""

    name: str
    title: str
    unit: str
    kind: str
    fields: Mapping[str, str]
    """Field of a telemetry row, and what it is called."""
    divisor: float = 1.0


GIB, MB = 2.0**30, 1e6
GROUPS = (
    Group(
        "gpu-activity",
        "GPU activity",
        "% of the time",
        "nvml",
        {
            "busy_percent": "a kernel runs",
            "sm_active_percent": "multiprocessors",
            "tensor_active_percent": "tensor cores",
            "dram_active_percent": "memory",
        },
    ),
    Group("gpu-memory", "GPU memory in use", "GiB", "nvml", {"memory_used_bytes": "used"}, GIB),
    Group("gpu-power", "GPU power", "W", "nvml", {"power_w": "power"}),
    Group("gpu-temperature", "GPU temperature", "°C", "nvml", {"temperature_c": "temperature"}),
    Group("gpu-clock", "GPU clock", "MHz", "nvml", {"sm_clock_mhz": "multiprocessors", "memory_clock_mhz": "memory"}),
    Group(
        "gpu-links",
        "PCIe and NVLink",
        "MB/s",
        "nvml",
        {
            "pcie_tx_bytes_per_s": "PCIe out",
            "pcie_rx_bytes_per_s": "PCIe in",
            "nvlink_tx_bytes_per_s": "NVLink out",
            "nvlink_rx_bytes_per_s": "NVLink in",
        },
        MB,
    ),
    Group("host-cpu", "CPU, all cores together", "% of the time", "host", {"cpu_percent": "busy"}),
    Group(
        "host-memory",
        "Memory of the host",
        "GiB",
        "host",
        {"memory_used_bytes": "the host", "process_memory_bytes": "this process"},
        GIB,
    ),
    Group(
        "host-traffic",
        "Disk and network",
        "MB/s",
        "host",
        {
            "disk_read_bytes_per_s": "disk, read",
            "disk_write_bytes_per_s": "disk, written",
            "network_sent_bytes_per_s": "network, sent",
            "network_received_bytes_per_s": "network, received",
        },
        MB,
    ),
)
SAMPLE: dict[str, schema.Kind] = (
    schema.PLACE
    | dict.fromkeys(("host", "device", "error"), schema.text)
    | {field: schema.finite for group in GROUPS for field in group.fields}
)
"""A row of telemetry.jsonl, as far as a report reads it."""
MOST_SERIES = 16
"""In one figure; further devices are named in its caption, and their rows are in telemetry.jsonl."""


def telemetry(runs: "Sequence[Run]") -> Section:
    """A section with what was sampled; its text says so where nothing was."""
    figures = tuple(figure for group in GROUPS if (figure := _figure(group, runs)))
    if figures:
        lost = sorted({str(row["error"]) for run in runs for row in run.telemetry if "error" in row})
        return Section(title="Machine", text="".join(f"Telemetry reported: {one}. " for one in lost), parts=figures)
    return Section(title="Machine", text="No telemetry was sampled: --telemetry.hz 0, or the run was too short.")


def _figure(group: Group, runs: "Sequence[Run]") -> Figure | None:
    series: dict[str, tuple[list[float], list[float]]] = {}
    whole_s = 0.0
    for run in runs:
        rows = [row for row in run.telemetry if row["kind"] == group.kind]
        devices = _device_names(rows)
        first_s = min((row["time_s"] for row in run.telemetry), default=0.0)
        present = [field for field in group.fields if any(number(row.get(field)) for row in rows)]
        for row in rows:
            seconds = row["time_s"] - first_s
            whole_s = max(whole_s, seconds)
            for field in present:
                value = number(row.get(field))
                if value is not None:
                    words = (
                        run.label if len(runs) > 1 else "",
                        devices[_device(row)] if len(devices) > 1 else "",
                        group.fields[field] if len(group.fields) > 1 else "",
                    )
                    times, values = series.setdefault(", ".join(filter(None, words)), ([], []))
                    times.append(seconds)
                    values.append(value / group.divisor)
    if not series:
        return None
    scale, unit = (60.0, "min") if whole_s > 300 else (1.0, "s")
    left_out = list(series)[MOST_SERIES:]
    x = f"time ({unit})"
    data: dict[str, list[Cell]] = {x: [], group.unit: [], "curve": []}
    for name, (times, values) in list(series.items())[:MOST_SERIES]:
        data[x] += [seconds / scale for seconds in times]
        data[group.unit] += values
        data["curve"] += [name or group.title] * len(times)
    layer = Layer(mark="line", data=data, x=x, y=group.unit, series="curve")
    caption = f"Not drawn: {', '.join(left_out)}." if left_out else ""
    return Figure(
        name=group.name, title=group.title, x=Axis(title=x), y=Axis(title=group.unit), layers=(layer,), caption=caption
    )


def _device(row: "Row") -> tuple[str, str]:
    return str(row.get("host", "")), str(row.get("device", ""))


def _device_names(rows: "Sequence[Row]") -> dict[tuple[str, str], str]:
    """Names as short as they can be: GPU and number on one host, the host's name before it on several."""
    found = sorted({_device(row) for row in rows})
    hosts = {host for host, _ in found}
    names: dict[tuple[str, str], str] = {}
    for host in sorted(hosts):
        own = [pair for pair in found if pair[0] == host]
        for index, pair in enumerate(own):
            device = f"GPU {index}" if pair[1] else ""
            names[pair] = " ".join(filter(None, (host if len(hosts) > 1 else "", device)))
    return names
