"""CPU cores: the number that a process may use, the number that other programs use, and waiting of threads.

Imports neither torch nor numpy: `passive_waiting` must be called before torch loads its OpenMP runtime.
"""

import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
STAT = Path("/proc/stat")
SPINS = "20000"
"""Iterations of libgomp's busy wait, about 1 ms. This is longer than the gap between two parallel regions of a step:
with 2,000 iterations, threads on an idle machine sleep in every layer, and training of a small network is a fifth
slower. It is shorter than a time slice of the kernel, so that on a busy machine a waiting thread gives its core to the
thread that it waits for. libgomp's default of 300,000 takes up to 14 ms (benchmarks/busy_cores.py)."""
BUSY = 0.5
"""Number of cores in use by other programs at which a machine counts as busy."""


def passive_waiting(environ: MutableMapping[str, str] = os.environ) -> None:
    """Limit the busy waiting of OpenMP threads, unless the user has set a limit. Call before torch is imported."""
    if environ.keys().isdisjoint({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}):
        environ["GOMP_SPINCOUNT"] = SPINS
        environ["KMP_BLOCKTIME"] = "1"  # ms; the same for LLVM's and Intel's runtimes, by default 200


def affinity(pid: int = 0) -> list[int]:
    """Sorted numbers of the cores on which a process may run; by default this process."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(pid))
    return list(range(os.cpu_count() or 1))


def quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """CPU quota of this process's control groups, in cores; infinite without a limit.

    The limit of a group applies to all groups below it, so the smallest limit from the process's group to the root is
    used. In a container the path of the group may not exist below the mount, whose root is then the group.
    """
    limits = [float("inf")]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return limits[0]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for name in (controllers, "cpu", "cpu,cpuacct") if controllers else ("", "unified"):
            mount = root / name
            group = mount / path.strip("/")
            limits += [_limit(folder) for folder in (group, *group.parents) if folder.is_relative_to(mount)]
    return min(limits)


def _limit(group: Path) -> float:
    """Cores allowed by one control group: version 2's cpu.max, version 1's pair of files."""
    try:
        if (group / "cpu.max").is_file():
            time_us, period_us = (group / "cpu.max").read_text().split()
        else:
            time_us, period_us = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float("inf") if time_us == "max" or int(time_us) <= 0 else int(time_us) / int(period_us)
    except (OSError, ValueError, ZeroDivisionError):
        return float("inf")


def sharing(local_size: int) -> int:
    """Number of ranks of this host that run on this rank's cores, including this rank.

    A launcher that binds each rank to separate cores gives it a part of the launcher's cores, as does
    `distdl.runtime.device.pin_cores`. Otherwise all ranks run on the same cores.
    """
    try:
        launcher = len(affinity(os.getppid()))
    except OSError:  # it has ended
        launcher = 0
    available = len(affinity())
    return max(round(local_size * available / max(launcher, available)), 1)


def cores(local_size: int = 1) -> int:
    """Number of cores for one of `local_size` ranks of this host: its share of the affinity and of the CPU quota."""
    allowed = len(affinity())
    if sys.version_info >= (3, 13):  # may be set by -X cpu_count
        allowed = os.process_cpu_count() or allowed
    return max(int(min(allowed / sharing(local_size), quota() / local_size)), 1)


class Usage(NamedTuple):
    """CPU time since boot, in seconds."""

    by_core: dict[int, float]
    """Used by all processes that are not niced."""
    process: float
    """Used by this process."""
    at: float
    """Time of the reading, on the monotonic clock."""


def usage() -> Usage | None:
    """Read the CPU time used so far; None if the system does not report it."""
    try:
        rows = [line.split() for line in STAT.read_text().splitlines() if line.startswith("cpu")]
        tick = 1 / os.sysconf("SC_CLK_TCK")
        # user, nice, system, idle, iowait, irq, softirq, steal
        used = {int(row[0][3:]): tick * sum(int(row[k]) for k in (1, 3, 6, 7, 8)) for row in rows if row[0] != "cpu"}
    except (OSError, ValueError, IndexError):
        return None
    return Usage(used, time.process_time(), time.monotonic())


def busy_cores(start: Usage, end: Usage, cores: list[int], ranks: int = 1) -> float:
    """Return the mean number of these cores that other programs used between two readings.

    Args:
        ranks: number of this job's ranks on these cores. The others are assumed to use as much as this one.
    """
    elapsed_s = max(end.at - start.at, 1e-9)
    used_s = sum(end.by_core.get(core, 0) - start.by_core.get(core, 0) for core in cores)
    return max((used_s - ranks * (end.process - start.process)) / elapsed_s, 0.0)


_start: Usage | None = None
_busy = 0.0


def observe_start() -> None:
    """Start to measure the use of cores by other programs, during the import of torch."""
    global _start
    _start = usage()


def observe_end(ranks: int) -> float:
    """Return the mean number of this process's cores that other programs used since `observe_start`; 0 if unknown.

    Args:
        ranks: number of this job's ranks on these cores.
    """
    global _start, _busy
    end = usage()
    _busy = busy_cores(_start, end, affinity(), ranks) if _start and end else 0.0
    _start = None  # a later training of this process is not measured again
    return _busy


def busy_at_start() -> float:
    """Return the last result of `observe_end`."""
    return _busy


def warning(busy: float, available: int) -> str:
    """Return a warning about cores that other programs use, or "" if they are too few to matter."""
    if busy < BUSY:
        return ""
    return (
        f"other programs use {busy:.1f} of this process's {available} cores: training is slower than on an idle "
        "machine; ranks are not pinned to cores. Fewer --compute.threads may be faster"
    )
