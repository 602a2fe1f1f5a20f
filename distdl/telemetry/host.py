"""CPU, memory, disk and network usage of the whole machine, from psutil."""

import time
from typing import Any

import psutil


class HostCounters:
    """Counters of the machine that this process runs on. For use by one thread."""

    kind = "host"
    shortest_s = 1.0
    """Shortest interval in seconds. Reading a dozen files of /proc is slow, and a shorter mean would be noisy."""

    def __init__(self) -> None:
        self._previous_s, self._totals = time.monotonic(), _totals()
        psutil.cpu_percent()
        self._process = psutil.Process()

    def sample(self) -> dict[str, Any]:
        """Return means since the previous sample: percent over all cores, bytes per second.

        Entries whose counters a container does not have are missing.
        """
        now, totals = time.monotonic(), _totals()
        elapsed_s = max(now - self._previous_s, 1e-9)
        memory = psutil.virtual_memory()
        row: dict[str, Any] = {
            "cpu_percent": psutil.cpu_percent(),
            "memory_used_bytes": memory.total - memory.available,
            "memory_total_bytes": memory.total,
            "process_memory_bytes": self._process.memory_info().rss,
        }
        for name, total in totals.items():
            row[f"{name}_bytes_per_s"] = max(total - self._totals.get(name, total), 0) / elapsed_s
        self._previous_s, self._totals = now, totals
        return row

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


def _totals() -> dict[str, int]:
    """Return the bytes since boot. The network includes the loopback interface, which ranks of one host use."""
    # nowrap keeps a history of each disk and interface. It takes half of the time, and only 32-bit kernels need it.
    disk, network = psutil.disk_io_counters(nowrap=False), psutil.net_io_counters(nowrap=False)
    totals = {"disk_read": disk.read_bytes, "disk_write": disk.write_bytes} if disk else {}
    return totals | ({"network_sent": network.bytes_sent, "network_received": network.bytes_recv} if network else {})
