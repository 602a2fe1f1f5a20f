"""Activity of a GPU's units from NVML's GPM counters, on Hopper and later.

NVML's utilization is the share of time in which any kernel ran. GPM has the shares of multiprocessors, tensor cores and
memory in use (https://docs.nvidia.com/deploy/nvml-api/group__nvmlGpmFunctions.html).
"""

import contextlib
import math
import time
from typing import Any

import pynvml as nvml

from distdl.telemetry.nvml_types import get_gpm_metrics, gpm_request

METRICS = {
    "sm_active_percent": (nvml.NVML_GPM_METRIC_SM_UTIL, 1),
    "sm_occupancy_percent": (nvml.NVML_GPM_METRIC_SM_OCCUPANCY, 1),
    "tensor_active_percent": (nvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL, 1),
    "dram_active_percent": (nvml.NVML_GPM_METRIC_DRAM_BW_UTIL, 1),
    "fp32_active_percent": (nvml.NVML_GPM_METRIC_FP32_UTIL, 1),
    "fp16_active_percent": (nvml.NVML_GPM_METRIC_FP16_UTIL, 1),
    "pcie_tx_bytes_per_s": (nvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC, 2**20),
    "pcie_rx_bytes_per_s": (nvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC, 2**20),
    "nvlink_tx_bytes_per_s": (nvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, 2**20),
    "nvlink_rx_bytes_per_s": (nvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, 2**20),
}
"""Metric, and the factor that converts its unit."""

SHORTEST_S = 0.1
"""NVML refreshes its samples every 100 ms: more frequent samples have no new information."""


class Gpm:
    """Mean activity between two calls of `read`, which are at least 0.1 s apart."""

    def __init__(self, gpu: Any, instance: int | None, samples: list[Any]) -> None:
        self._gpu, self._instance = gpu, instance
        self._older, self._newer = samples or (None, None)
        self._taken_s = -math.inf
        self.supported = bool(samples)
        self._request = gpm_request([metric for metric, _ in METRICS.values()])

    @classmethod
    def open(cls, gpu: Any, instance: int | None) -> "Gpm":
        """Open the counters of a GPU, or of its GPU instance `instance`; without counters, `supported` is False."""
        samples: list[Any] = []
        try:
            if nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice:
                for _ in range(2):
                    samples.append(nvml.nvmlGpmSampleAlloc())  # noqa: PERF401 - the first is freed if the second fails
        except nvml.NVMLError:
            for sample in samples:
                nvml.nvmlGpmSampleFree(sample)
            samples = []
        return cls(gpu, instance, samples)

    def read(self) -> dict[str, float]:
        """Return the metrics of this device, percentages (0 to 100) and bytes per second; empty if read too soon."""
        now = time.monotonic()
        if not self.supported or now - self._taken_s <= SHORTEST_S:
            return {}
        if self._instance is None:
            nvml.nvmlGpmSampleGet(self._gpu, self._older)
        else:
            nvml.nvmlGpmMigSampleGet(self._gpu, self._instance, self._older)
        self._older, self._newer = self._newer, self._older
        first, self._taken_s = math.isinf(self._taken_s), now
        return {} if first else self._between()

    def _between(self) -> dict[str, float]:
        self._request.sample1, self._request.sample2 = self._older, self._newer
        metrics = get_gpm_metrics(self._request)
        return {
            name: slot.value * unit
            for slot, (name, (_, unit)) in zip(metrics, METRICS.items(), strict=False)
            if slot.nvmlReturn == nvml.NVML_SUCCESS and math.isfinite(slot.value)
        }

    def close(self) -> None:
        """Free the two sample buffers."""
        if self.supported:
            self.supported = False
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlGpmSampleFree(self._older)
                nvml.nvmlGpmSampleFree(self._newer)
