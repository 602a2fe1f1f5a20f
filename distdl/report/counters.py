"""Counters of devices and hosts in telemetry.jsonl, in the groups that a report shows."""

from collections.abc import Mapping
from typing import NamedTuple

from distdl.core import schema


class CounterGroup(NamedTuple):
    """Counters of the same unit, shown in one figure."""

    name: str
    title: str
    unit: str
    kind: str
    fields: Mapping[str, str]
    """Title of each counter, by field of a telemetry row."""
    divisor: float = 1.0


GIB, MB = 2.0**30, 1e6
GROUPS = (
    CounterGroup(
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
    CounterGroup("gpu-memory", "GPU memory in use", "GiB", "nvml", {"memory_used_bytes": "used"}, GIB),
    CounterGroup("gpu-power", "GPU power", "W", "nvml", {"power_w": "power"}),
    CounterGroup("gpu-temperature", "GPU temperature", "°C", "nvml", {"temperature_c": "temperature"}),
    CounterGroup(
        "gpu-clock", "GPU clock", "MHz", "nvml", {"sm_clock_mhz": "multiprocessors", "memory_clock_mhz": "memory"}
    ),
    CounterGroup(
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
    CounterGroup("host-cpu", "CPU, all cores together", "% of the time", "host", {"cpu_percent": "busy"}),
    CounterGroup(
        "host-memory",
        "Memory of the host",
        "GiB",
        "host",
        {"memory_used_bytes": "the host", "process_memory_bytes": "this process"},
        GIB,
    ),
    CounterGroup(
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
SAMPLE: dict[str, schema.FieldKind] = (
    schema.ROW
    | dict.fromkeys(("host", "device", "error"), schema.text)
    | {field: schema.finite for group in GROUPS for field in group.fields}
)
"""Fields of telemetry.jsonl that a report reads."""
