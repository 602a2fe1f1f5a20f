"""Types for the parts of nvidia-ml-py (pynvml) that are defined at run time: error codes and ctypes structures."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import pynvml as nvml


class _CodedError(Protocol):
    value: int


class GpmMetric(Protocol):
    """c_nvmlGpmMetric_t: one metric of a request, and its value."""

    metricId: int
    nvmlReturn: int
    value: float


class GpmRequest(Protocol):
    """c_nvmlGpmMetricsGet_t: the metrics between two samples."""

    sample1: Any
    sample2: Any
    metrics: Sequence[GpmMetric]


def error_code(error: nvml.NVMLError) -> int:
    """Return the NVML_ERROR_... code of an exception."""
    return cast(_CodedError, error).value


def gpm_request(metrics: Sequence[int]) -> GpmRequest:
    """Create a request for metrics, given as NVML_GPM_METRIC_... ids."""
    request = nvml.c_nvmlGpmMetricsGet_t(version=nvml.NVML_GPM_METRICS_GET_VERSION, numMetrics=len(metrics))
    typed = cast(GpmRequest, request)
    for slot, metric in zip(typed.metrics, metrics, strict=False):
        slot.metricId = metric
    return typed


def get_gpm_metrics(request: GpmRequest) -> Sequence[GpmMetric]:
    """Compute the metrics of a request from its two samples."""
    return nvml.nvmlGpmMetricsGet(request).metrics
