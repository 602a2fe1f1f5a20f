"""Counters of one NVIDIA device, read by UUID through NVIDIA's management library (NVML).

NVML numbers all GPUs of the machine in PCI order; CUDA numbers those in CUDA_VISIBLE_DEVICES, in that order, and MIG
slices. A CUDA index passed to NVML may select another job's GPU (pynvml#28, pytorch#94472). Therefore indices are not
used outside of this module: `visible_uuids` and `uuid_of` map a CUDA index to a UUID, and `NvmlDevice` reads by UUID.

A counter that a device does not have is missing in its rows; it is not replaced by zero.
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
from distdl.telemetry.nvml_types import error_code

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
"""Bits of nvmlDeviceGetCurrentClocksEventReasons: reasons why clocks are below their maximum."""

GONE = (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_GPU_NOT_FOUND)
NEVER = (
    nvml.NVML_ERROR_NOT_SUPPORTED,
    nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    nvml.NVML_ERROR_NO_PERMISSION,
    nvml.NVML_ERROR_INVALID_ARGUMENT,
)
"""Errors that are permanent for the process; after other errors, only the value of this sample is missing."""

PERSISTENT = 5
"""Number of consecutive samples after which a failing reading is reported."""

SLOW, SLOW_INTERVAL_S = ("memory", "memory_clock", "temperature", "counters"), 0.5
"""Readings that change slowly and take half of a sample's time, and their shortest interval in seconds."""

ALL_LINKS = 0xFFFFFFFF
PCIE = (nvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, nvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES)
NVLINK = (nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX)
COUNTERS = {
    "pcie_tx_bytes_per_s": (PCIE[0], 1),
    "pcie_rx_bytes_per_s": (PCIE[1], 1),
    "nvlink_tx_bytes_per_s": ((NVLINK[0], ALL_LINKS), 1024),
    "nvlink_rx_bytes_per_s": ((NVLINK[1], ALL_LINKS), 1024),
}
"""NVML field of a total, and bytes per unit of it. NVLink's totals are sums over all links."""


class Lost(Exception):
    """The device no longer responds: it fell off the bus, or must be reset."""


@contextlib.contextmanager
def session() -> Iterator[bool]:
    """Initialize NVML for the block. Yields False if there is no driver."""
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
    """Properties of one GPU; None if NVML returns an error."""

    uuid: str | None
    model: str | None
    slices: list[tuple[str, int, int]]


def visible_uuids(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return UUIDs in CUDA's order: entry i is CUDA's device i. The list is empty without a driver.

    Follows CUDA's rules for CUDA_VISIBLE_DEVICES (CUDA Programming Guide, "Environment Variables"): indices in PCI
    order, UUIDs or unique prefixes of them, MIG slices by UUID or as MIG-GPU-UUID/instance/compute. The first entry
    that matches no device hides itself and all following ones; a repeated entry hides all devices. A GPU with MIG
    slices means its first slice. A GPU that returns errors has an index but is left out.

    Raises:
        UserError: there are several models of GPU, and CUDA_DEVICE_ORDER lets CUDA order them by estimated speed.
    """
    with session() as alive:
        gpus = _gpus() if alive else []
    models = sorted({gpu.model for gpu in gpus if gpu.model})
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    entries = [str(index) for index in range(len(gpus))] if listed is None else listed.split(",")
    by_index = any(_index(entry.strip()) is not None for entry in entries)
    if by_index and len(models) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise UserError(
            f"the GPUs of this machine differ ({', '.join(models)}), so that their CUDA index depends on their speed: "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or use UUIDs in CUDA_VISIBLE_DEVICES"
        )
    visible: list[str] = []
    for entry in entries:
        gpu = _match(entry.strip(), gpus)
        if gpu is None:
            break
        uuid = gpu.slices[0][0] if gpu.slices else gpu.uuid
        if uuid in visible:
            return []
        if uuid is not None:
            visible.append(uuid)
    return visible


def uuid_of(cuda_uuid: str, index: int, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return NVML's UUID of CUDA's device `index`, whose UUID in CUDA is `cuda_uuid` (in torch without "GPU-").

    Returns None if NVML does not know the device.
    """
    with session() as alive:
        for uuid in (f"MIG-{cuda_uuid}", f"GPU-{cuda_uuid}", cuda_uuid) if alive else ():
            with contextlib.suppress(nvml.NVMLError):
                if not _slices(nvml.nvmlDeviceGetHandleByUUID(uuid)):
                    return uuid
                # Some CUDA versions report the whole GPU's UUID for a slice: use the environment instead.
                visible = visible_uuids(environ)
                return visible[index] if index < len(visible) else None
    return None


class NvmlDevice:
    """One GPU, or one MIG slice of it. For use by one thread.

    For a slice, NVML reports its memory and (Hopper and later) its activity. Clocks, power, temperature and energy are
    those of the whole GPU, whose UUID is in `gpu`.

    Raises:
        pynvml.NVMLError: there is no driver, or no device with this UUID.
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
        self._handle = self._gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self._instance: int | None = None
        if uuid.startswith("MIG-"):
            self._gpu = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._handle)
            self._instance = nvml.nvmlDeviceGetGpuInstanceId(self._handle)
        self.gpu = _result_or_none(nvml.nvmlDeviceGetUUID, self._gpu) or uuid
        self.name = _result_or_none(nvml.nvmlDeviceGetName, self._handle) or "unknown"
        self._unsupported: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._empty_samples = 0.0
        self._error = self._last_error = ""
        self._slow_due = -math.inf
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
        """Read the device. Rates are since the previous reading; `energy_j` is since the first sample.

        Values that change slowly are read at most every half second. A reading that fails repeatedly is reported once,
        in `error`.

        Raises:
            Lost: the device no longer responds.
        """
        self._error = ""
        row: dict[str, Any] = {"device": self.uuid}
        if self._instance is not None:
            row["gpu"] = self.gpu
        now = time.monotonic()
        omitted = set(self._unsupported)
        if now < self._slow_due:
            omitted.update(SLOW)
        else:
            self._slow_due = now + SLOW_INTERVAL_S
        for name, read in self._readings.items():
            if name not in omitted and not (name == "pcie" and "pcie_tx_bytes_per_s" in self._totals):
                row |= self._try(name, read) or {}
        row |= self._energy(row.get("power_w"))
        if row.keys() - {"device", "gpu"}:
            self._empty_samples = -math.inf  # some values can be read: never report that all readings fail
        self._empty_samples += 1
        if self._empty_samples == PERSISTENT:
            self._report("every reading", self._last_error)
        return row | ({"error": self._error} if self._error else {})

    def close(self) -> None:
        """Release the library's resources for this device."""
        self._gpm.close()
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    def _try(self, name: str, read: Callable[[], Any]) -> Any:
        try:
            value = read()
        except nvml.NVMLError as error:
            if error_code(error) in GONE:
                raise Lost(str(error)) from None
            self._failures[name] += 1
            if error_code(error) in NEVER:
                self._unsupported.add(name)
            elif self._failures[name] == PERSISTENT:
                self._report(name, str(error))
            self._last_error = str(error)
            return None
        except Exception:  # versions of nvidia-ml-py and the driver do not match
            self._unsupported.add(name)
            return None
        if self._failures[name] < PERSISTENT:
            self._failures[name] = 0
        return value

    def _report(self, name: str, error: str) -> None:
        self._error = f"{self._error}; {name}: {error}".removeprefix("; ")

    def _utilization(self) -> dict[str, Any]:
        # busy: share of time in which any kernel ran. In a deadlocked collective it is 100, unlike the GPM counters.
        percent = nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return {"busy_percent": percent.gpu, "memory_busy_percent": percent.memory}

    def _memory(self) -> dict[str, Any]:
        # Version 1 includes memory reserved by the driver; nvidia-smi uses version 2.
        memory = _newest(
            lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle, version=nvml.nvmlMemory_v2),
            lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle),
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
            previous_s, previous_total = self._totals.get(name, (now, total))
            self._totals[name] = (now, total)
            # A 32-bit total may have overflowed once; a 64-bit total that decreased was reset, and has no rate.
            difference = (total - previous_total) % 2**32 if narrow else total - previous_total
            if now > previous_s and difference >= 0:
                rates[name] = difference * unit / (now - previous_s)
        return rates

    def _pcie_window(self) -> dict[str, Any]:
        # Each call blocks for 20 ms: used only if neither the counters nor GPM have these rates.
        if self._gpm.supported and "gpm" not in self._unsupported:
            return {}
        rate = nvml.nvmlDeviceGetPcieThroughput
        return {
            "pcie_tx_bytes_per_s": rate(self._gpu, nvml.NVML_PCIE_UTIL_TX_BYTES) * 1000,
            "pcie_rx_bytes_per_s": rate(self._gpu, nvml.NVML_PCIE_UTIL_RX_BYTES) * 1000,
        }

    def _energy(self, power_w: float | None) -> dict[str, Any]:
        """Return the energy since the first sample, from the device's counter or from power by the trapezoidal rule."""
        now = time.monotonic()
        (previous_s, previous_w), self._power = self._power, (now, -1.0 if power_w is None else power_w)
        total = None
        if "energy" not in self._unsupported:
            total = self._try("energy", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))
        if total is not None:
            # The counter is reset when the driver restarts; the energy since the previous sample is then unknown.
            if 0 <= self._millijoules <= total:
                self._energy_j += (total - self._millijoules) / 1e3
            self._millijoules = total
        elif "energy" not in self._unsupported or power_w is None:
            return {}
        elif previous_w >= 0:
            self._energy_j += (now - previous_s) * (previous_w + power_w) / 2
        return {"energy_j": self._energy_j, "energy_from": "power" if total is None else "counter"}


def _newest(*calls: Callable[[], Any]) -> Any:
    """Return the result of the first call that this driver and this nvidia-ml-py support."""
    for call in calls[:-1]:
        try:
            return call()
        except AttributeError:
            continue
        except nvml.NVMLError as error:
            if error_code(error) not in (nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH):
                raise
    return calls[-1]()


def _result_or_none(call: Callable[[Any], Any], handle: Any) -> Any:
    """Return NVML's result, or None for an error: the failure of one device must not hide the others."""
    try:
        return call(handle)
    except (nvml.NVMLError, UnicodeDecodeError):
        return None


def _gpus() -> list[_Gpu]:
    """List all GPUs that this process may use, in PCI order, including those with errors, which CUDA numbers too."""
    gpus = []
    for index in range(_result_or_none(lambda _: nvml.nvmlDeviceGetCount(), None) or 0):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            if error_code(error) != nvml.NVML_ERROR_NO_PERMISSION:  # else another job's: CUDA does not count it
                gpus.append(_Gpu(uuid=None, model=None, slices=[]))
            continue
        uuid, model = _result_or_none(nvml.nvmlDeviceGetUUID, handle), _result_or_none(nvml.nvmlDeviceGetName, handle)
        gpus.append(_Gpu(uuid=uuid, model=model, slices=_slices(handle)))
    return gpus


def _slices(gpu: Any) -> list[tuple[str, int, int]]:
    """Return UUID, GPU instance and compute instance of each MIG slice; empty for a GPU without slices."""
    mode = _result_or_none(nvml.nvmlDeviceGetMigMode, gpu)
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    slices = []
    for index in range(_result_or_none(nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        with contextlib.suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
            instance, compute = nvml.nvmlDeviceGetGpuInstanceId(handle), nvml.nvmlDeviceGetComputeInstanceId(handle)
            slices.append((nvml.nvmlDeviceGetUUID(handle), instance, compute))
    return slices


def _index(entry: str) -> int | None:
    """Return the integer at the start of an entry: CUDA parses it like C's strtoul and ignores the rest."""
    match = re.match(r"[+-]?[0-9]+", entry)
    return int(match[0]) if match else None


def _match(entry: str, gpus: Sequence[_Gpu]) -> _Gpu | None:
    """Return the GPU of an entry of CUDA_VISIBLE_DEVICES, with only the slice that it names; None without a match.

    Upper and lower case hexadecimal digits are equal.
    """
    index = _index(entry)
    if index is not None:
        return gpus[index] if 0 <= index < len(gpus) else None
    if entry.startswith("GPU-"):
        matches = [gpu for gpu in gpus if _starts_with(gpu.uuid, entry)]
    elif entry.startswith("MIG-"):
        matches = [replace(gpu, slices=[each]) for gpu in gpus for each in gpu.slices if _is_slice(entry, gpu, each)]
    else:
        return None
    return matches[0] if len(matches) == 1 else None


def _is_slice(entry: str, gpu: _Gpu, candidate: tuple[str, int, int]) -> bool:
    """Whether an entry names this slice: by its UUID, or as MIG-GPU-UUID/instance/compute."""
    uuid, *instances = candidate
    parts = re.fullmatch(r"MIG-(GPU-[^/]*)/([0-9]+)/([0-9]+)", entry)
    if parts:
        return _starts_with(gpu.uuid, parts[1]) and instances == [int(parts[2]), int(parts[3])]
    return _starts_with(uuid, entry)


def _starts_with(uuid: str | None, prefix: str) -> bool:
    return uuid is not None and uuid.casefold().startswith(prefix.casefold())
