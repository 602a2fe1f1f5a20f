"""One NVIDIA device, read through NVIDIA's management library (NVML) and always by its UUID.

NVML counts every GPU of the machine in PCI order; CUDA counts those that CUDA_VISIBLE_DEVICES leaves, in its order, and
MIG slices besides. Whoever hands a CUDA index to NVML reads another job's GPU (pynvml#28, pytorch#94472). So an index
never leaves this module: `visible_uuids` and `uuid_of` say which UUID a CUDA index means, `Device` reads by UUID.

A counter that a device does not have is left out of its rows: nothing is ever filled in with a zero.
"""

import contextlib
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pynvml as nvml

from distdl.core.errors import UserError
from distdl.telemetry.nvml_gpm import Gpm

THROTTLE = {
    0x001: "gpu_idle",
    0x002: "application_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal",
    0x040: "hw_thermal",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons: why the clocks are below their highest."""

GONE = (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_GPU_NOT_FOUND)
NEVER = (
    nvml.NVML_ERROR_NOT_SUPPORTED,
    nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    nvml.NVML_ERROR_NO_PERMISSION,
    nvml.NVML_ERROR_INVALID_ARGUMENT,
)
"""Answers that will not change while the process lives; any other error costs this sample's value only."""

PERSISTENT = 5
"""A reading that fails in this many samples in a row is reported."""

SELDOM, SELDOM_S = ("memory", "memory_clock", "temperature", "counters"), 0.5
"""Readings that say little in less time, and cost half a sample: no oftener than this."""

ALL_LINKS = 0xFFFFFFFF
PCIE = (nvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, nvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES)
NVLINK = (nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX)
COUNTERS = {
    "pcie_tx_bytes_per_s": (PCIE[0], 1),
    "pcie_rx_bytes_per_s": (PCIE[1], 1),
    "nvlink_tx_bytes_per_s": ((NVLINK[0], ALL_LINKS), 1024),
    "nvlink_rx_bytes_per_s": ((NVLINK[1], ALL_LINKS), 1024),
}
"""Field of a running total, and the bytes that one unit of it stands for. NVLink's are summed over all links."""


class Lost(Exception):
    """The device no longer answers: it fell off the bus, or must be reset."""


@contextlib.contextmanager
def session() -> Iterator[bool]:
    """NVML loaded and initialised for the block. Yields False where there is no driver to speak to."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


@dataclass(frozen=True, kw_only=True)
class _Gpu:
    """What NVML says of one GPU; None where it does not answer."""

    uuid: str | None
    model: str | None
    slices: list[tuple[str, int, int]]


def visible_uuids(environ: Mapping[str, str] = os.environ) -> list[str]:
    """UUIDs in CUDA's order: entry i is the device that CUDA calls i. Empty without a driver.

    Follows CUDA's rules for CUDA_VISIBLE_DEVICES (CUDA Programming Guide, "Environment Variables"): indices in PCI
    order, UUIDs or unique beginnings of them, MIG slices by UUID or as MIG-GPU-UUID/instance/compute; the first entry
    that names nothing hides itself and all after it; an entry named twice hides everything. A GPU cut into slices
    stands for the first of them. A GPU that does not answer keeps its index and is left out.

    Raises:
        UserError: several models of GPU, and CUDA_DEVICE_ORDER leaves their order to CUDA's guess of their speed.
    """
    with session() as alive:
        gpus = _gpus() if alive else []
    models = sorted({gpu.model for gpu in gpus if gpu.model})
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    words = [str(index) for index in range(len(gpus))] if listed is None else listed.split(",")
    by_index = any(_index(word.strip()) is not None for word in words)
    if by_index and len(models) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise UserError(
            f"the GPUs of this machine differ ({', '.join(models)}), so that their CUDA index depends on their speed: "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID in CUDA_VISIBLE_DEVICES"
        )
    visible: list[str] = []
    for word in words:
        gpu = _named(word.strip(), gpus)
        if gpu is None:
            break
        uuid = gpu.slices[0][0] if gpu.slices else gpu.uuid
        if uuid in visible:
            return []
        if uuid is not None:
            visible.append(uuid)
    return visible


def uuid_of(cuda_uuid: str, index: int, environ: Mapping[str, str] = os.environ) -> str | None:
    """NVML's UUID of the device that CUDA reports as `cuda_uuid` (torch leaves out "GPU-") and calls `index`.

    None where NVML does not know it.
    """
    with session() as alive:
        for uuid in (f"MIG-{cuda_uuid}", f"GPU-{cuda_uuid}", cuda_uuid) if alive else ():
            with contextlib.suppress(nvml.NVMLError):
                if not _slices(nvml.nvmlDeviceGetHandleByUUID(uuid)):
                    return uuid
                # Some CUDA versions report the whole GPU's UUID for a slice: then the environment decides.
                visible = visible_uuids(environ)
                return visible[index] if index < len(visible) else None
    return None


class Device:
    """One GPU, or one MIG slice of it. Meant for one thread.

    Of a slice, NVML knows the memory and (Hopper and later) the activity; clocks, power, temperature and energy are
    those of the whole GPU, named in `gpu`, and are shared by its slices.
    """

    kind = "nvml"
    shortest_s = 0.0

    def __init__(self, uuid: str) -> None:
        nvml.nvmlInit()
        try:
            self._open(uuid)
        except nvml.NVMLError:
            nvml.nvmlShutdown()
            raise

    def _open(self, uuid: str) -> None:
        self.uuid = uuid
        self._own = self._gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self._instance: int | None = None
        if uuid.startswith("MIG-"):
            self._gpu = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._own)
            self._instance = nvml.nvmlDeviceGetGpuInstanceId(self._own)
        self.gpu = _answer(nvml.nvmlDeviceGetUUID, self._gpu) or uuid
        self.name = _answer(nvml.nvmlDeviceGetName, self._own) or "unknown"
        self._unsupported: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._empty_samples = 0.0
        self._error = self._last_error = ""
        self._seldom_due = -math.inf
        self._totals: dict[str, tuple[float, int]] = {}
        self._energy_j, self._millijoules, self._power = 0.0, -1, (0.0, -1.0)
        self._gpm = Gpm.open(self._gpu, self._instance)
        self._readings: dict[str, Callable[[], dict[str, Any]]] = {
            "utilization": self._utilization,
            "memory": self._memory,
            "sm_clock": lambda: {"sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(self._gpu, nvml.NVML_CLOCK_SM)},
            "memory_clock": lambda: {"memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(self._gpu, nvml.NVML_CLOCK_MEM)},
            "power": lambda: {"power_w": nvml.nvmlDeviceGetPowerUsage(self._gpu) / 1e3},
            "temperature": self._temperature,
            "throttle": self._throttle,
            "counters": self._counters,
            "gpm": self._gpm.read,
            "pcie": self._pcie_window,
        }

    def sample(self) -> dict[str, Any]:
        """What the device says now. Rates are since they were read before; `energy_j` since the first sample.

        What changes slowly is in the first sample, and then in one each half second. A reading that keeps failing is
        reported once, in `error`.

        Raises:
            Lost: the device does not answer any more.
        """
        self._error = ""
        row: dict[str, Any] = {"device": self.uuid}
        if self._instance is not None:
            row["gpu"] = self.gpu
        now = time.monotonic()
        left_out = set(self._unsupported)
        if now < self._seldom_due:
            left_out.update(SELDOM)
        else:
            self._seldom_due = now + SELDOM_S
        for name, read in self._readings.items():
            if name not in left_out and not (name == "pcie" and "pcie_tx_bytes_per_s" in self._totals):
                row |= self._try(name, read) or {}
        row |= self._energy(row.get("power_w"))
        if row.keys() - {"device", "gpu"}:
            self._empty_samples = -math.inf  # something can be read: the device as a whole is never reported
        self._empty_samples += 1
        if self._empty_samples == PERSISTENT:
            self._report("every reading", self._last_error)
        return row | ({"error": self._error} if self._error else {})

    def close(self) -> None:
        """Free what the library holds for this device."""
        self._gpm.close()
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    def _try(self, name: str, read: Callable[[], Any]) -> Any:
        try:
            value = read()
        except nvml.NVMLError as error:
            if error.value in GONE:
                raise Lost(str(error)) from None
            self._failures[name] += 1
            if error.value in NEVER:
                self._unsupported.add(name)
            elif self._failures[name] == PERSISTENT:
                self._report(name, str(error))
            self._last_error = str(error)
            return None
        except Exception:  # an nvidia-ml-py that is older or newer than the driver
            self._unsupported.add(name)
            return None
        if self._failures[name] < PERSISTENT:
            self._failures[name] = 0
        return value

    def _report(self, name: str, error: str) -> None:
        self._error = f"{self._error}; {name}: {error}".removeprefix("; ")

    def _utilization(self) -> dict[str, Any]:
        # busy: share of time in which any kernel ran; a deadlocked collective reads 100. See the GPM counters beside.
        percent = nvml.nvmlDeviceGetUtilizationRates(self._own)
        return {"busy_percent": percent.gpu, "memory_busy_percent": percent.memory}

    def _memory(self) -> dict[str, Any]:
        # The first version counts the driver's reserve as used; nvidia-smi shows the second.
        memory = _newest(
            lambda: nvml.nvmlDeviceGetMemoryInfo(self._own, version=nvml.nvmlMemory_v2),
            lambda: nvml.nvmlDeviceGetMemoryInfo(self._own),
        )
        return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}

    def _temperature(self) -> dict[str, Any]:
        sensor = nvml.NVML_TEMPERATURE_GPU
        return {
            "temperature_c": _newest(
                lambda: nvml.nvmlDeviceGetTemperatureV(self._gpu, sensor),
                lambda: nvml.nvmlDeviceGetTemperature(self._gpu, sensor),
            )
        }

    def _throttle(self) -> dict[str, Any]:
        bits = _newest(
            lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(self._gpu),
            lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._gpu),
        )
        return {"throttle": [name for bit, name in THROTTLE.items() if bits & bit]}

    def _counters(self) -> dict[str, Any]:
        values = nvml.nvmlDeviceGetFieldValues(self._gpu, [field for field, _ in COUNTERS.values()])
        now, rates = time.monotonic(), {}
        for (name, (_, unit)), value in zip(COUNTERS.items(), values, strict=True):
            if value.nvmlReturn != nvml.NVML_SUCCESS:
                continue
            narrow = value.valueType == nvml.NVML_VALUE_TYPE_UNSIGNED_INT
            total = value.value.uiVal if narrow else value.value.ullVal
            before, last = self._totals.get(name, (now, total))
            self._totals[name] = (now, total)
            # A 32-bit total may have run over once since; a wide one that fell was reset, and tells nothing.
            moved = (total - last) % 2**32 if narrow else total - last
            if now > before and moved >= 0:
                rates[name] = moved * unit / (now - before)
        return rates

    def _pcie_window(self) -> dict[str, Any]:
        # Two blocking windows of 20 ms: only where neither counters nor GPM say it.
        if self._gpm.supported and "gpm" not in self._unsupported:
            return {}
        rate = nvml.nvmlDeviceGetPcieThroughput
        return {
            "pcie_tx_bytes_per_s": rate(self._gpu, nvml.NVML_PCIE_UTIL_TX_BYTES) * 1000,
            "pcie_rx_bytes_per_s": rate(self._gpu, nvml.NVML_PCIE_UTIL_RX_BYTES) * 1000,
        }

    def _energy(self, power_w: float | None) -> dict[str, Any]:
        """Energy since the first sample: by the device's own counter, else power integrated by the trapezoid rule."""
        now = time.monotonic()
        (before, last), self._power = self._power, (now, -1.0 if power_w is None else power_w)
        total = None
        if "energy" not in self._unsupported:
            total = self._try("energy", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))
        if total is not None:
            # The counter starts again with the driver: what it lost by that is not made up.
            if 0 <= self._millijoules <= total:
                self._energy_j += (total - self._millijoules) / 1e3
            self._millijoules = total
        elif "energy" not in self._unsupported or power_w is None:
            return {}
        elif last >= 0:
            self._energy_j += (now - before) * (last + power_w) / 2
        return {"energy_j": self._energy_j, "energy_from": "power" if total is None else "counter"}


def _newest(*calls: Callable[[], Any]) -> Any:
    """The first call that this driver and this nvidia-ml-py know."""
    for call in calls[:-1]:
        try:
            return call()
        except AttributeError:
            continue
        except nvml.NVMLError as error:
            if error.value not in (nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH):
                raise
    return calls[-1]()


def _answer(call: Callable[[Any], Any], handle: Any) -> Any:
    """What NVML answers, or None for an error: one device's failure must not hide the others."""
    try:
        return call(handle)
    except (nvml.NVMLError, UnicodeDecodeError):
        return None


def _gpus() -> list[_Gpu]:
    """All GPUs in PCI order that this process may use. One that does not answer is among them: CUDA counts it."""
    gpus = []
    for index in range(_answer(lambda _: nvml.nvmlDeviceGetCount(), None) or 0):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError_NoPermission:
            continue  # another job's: CUDA does not count it either
        except nvml.NVMLError:
            gpus.append(_Gpu(uuid=None, model=None, slices=[]))
            continue
        uuid, model = _answer(nvml.nvmlDeviceGetUUID, handle), _answer(nvml.nvmlDeviceGetName, handle)
        gpus.append(_Gpu(uuid=uuid, model=model, slices=_slices(handle)))
    return gpus


def _slices(gpu: Any) -> list[tuple[str, int, int]]:
    """UUID, GPU instance and compute instance of each MIG slice; empty for a GPU that is not cut."""
    mode = _answer(nvml.nvmlDeviceGetMigMode, gpu)
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    slices = []
    for index in range(_answer(nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        with contextlib.suppress(nvml.NVMLError):
            own = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
            instance, compute = nvml.nvmlDeviceGetGpuInstanceId(own), nvml.nvmlDeviceGetComputeInstanceId(own)
            slices.append((nvml.nvmlDeviceGetUUID(own), instance, compute))
    return slices


def _index(word: str) -> int | None:
    """The number that an entry begins with: CUDA reads it as C's strtoul does, and leaves the rest."""
    match = re.match(r"[+-]?[0-9]+", word)
    return int(match[0]) if match else None


def _named(word: str, gpus: Sequence[_Gpu]) -> _Gpu | None:
    """The GPU that one entry of CUDA_VISIBLE_DEVICES means, of a slice with that slice alone; None if it names nothing.

    Hexadecimal digits match in either case.
    """
    index = _index(word)
    if index is not None:
        return gpus[index] if 0 <= index < len(gpus) else None
    if word.startswith("GPU-"):
        matches = [gpu for gpu in gpus if _begins(gpu.uuid, word)]
    elif word.startswith("MIG-"):
        matches = [replace(gpu, slices=[each]) for gpu in gpus for each in gpu.slices if _is_slice(word, gpu, each)]
    else:
        return None
    return matches[0] if len(matches) == 1 else None


def _is_slice(word: str, gpu: _Gpu, candidate: tuple[str, int, int]) -> bool:
    """Whether an entry means this slice: by its own UUID, or as MIG-GPU-UUID/instance/compute."""
    uuid, *instances = candidate
    parts = re.fullmatch(r"MIG-(GPU-[^/]*)/([0-9]+)/([0-9]+)", word)
    if parts:
        return _begins(gpu.uuid, parts[1]) and instances == [int(parts[2]), int(parts[3])]
    return _begins(uuid, word)


def _begins(uuid: str | None, beginning: str) -> bool:
    return uuid is not None and uuid.casefold().startswith(beginning.casefold())
