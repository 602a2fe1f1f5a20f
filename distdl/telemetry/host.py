"""What the host does beside its devices: CPU, memory, disk and network of the whole machine, by psutil."""

import time
from typing import Any

import psutil


class Host:
    """The machine that this process runs on. Meant for one thread."""

    kind = "host"
    shortest_s = 1.0
    """A dozen files of /proc take longer to read than a GPU does to answer, and say little in less time."""

    def __init__(self) -> None:
        self._before_s, self._totals = time.monotonic(), _totals()
        psutil.cpu_percent()
        self._process = psutil.Process()

    def sample(self) -> dict[str, Any]:
        """Means since the sample before: percent of all cores together, bytes a second.

        A container without disk or network counters has no such entries.
        """
        now, totals = time.monotonic(), _totals()
        elapsed_s = max(now - self._before_s, 1e-9)
        memory = psutil.virtual_memory()
        row: dict[str, Any] = {
            "cpu_percent": psutil.cpu_percent(),
            "memory_used_bytes": memory.total - memory.available,
            "memory_total_bytes": memory.total,
            "process_memory_bytes": self._process.memory_info().rss,
        }
        for name, total in totals.items():
            row[f"{name}_bytes_per_s"] = max(total - self._totals.get(name, total), 0) / elapsed_s
        self._before_s, self._totals = now, totals
        return row

    def close(self) -> None:
        """Nothing is held."""


def _totals() -> dict[str, int]:
    """Bytes since boot. The network includes the loopback, over which ranks of one host meet."""
    # nowrap would keep a history of every disk and interface, at half the sample's cost, for 32-bit kernels.
    disk, network = psutil.disk_io_counters(nowrap=False), psutil.net_io_counters(nowrap=False)
    totals = {"disk_read": disk.read_bytes, "disk_write": disk.write_bytes} if disk else {}
    return totals | ({"network_sent": network.bytes_sent, "network_received": network.bytes_recv} if network else {})
