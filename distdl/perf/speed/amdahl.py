"""Amdahl's law, fitted to times at several numbers of workers."""

from dataclasses import dataclass

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.regression import nonnegative


@dataclass(frozen=True, kw_only=True)
class AmdahlFit:
    """Amdahl's law: the time is serial_s + parallel_s / workers, in seconds."""

    serial_s: float
    parallel_s: float
    points: int
    """Number of distinct worker counts in the fit; two determine it exactly, so that `error` is then no test."""
    error: float
    """Mean absolute relative error of the mean times at these worker counts."""

    def time_s(self, workers: int) -> float:
        """Predict the time in seconds."""
        return self.serial_s + self.parallel_s / workers


def fit_amdahl(workers: Array, seconds: Array) -> AmdahlFit | None:
    """Fit the law on relative error; None with fewer than two distinct numbers of workers.

    Args:
        workers: [n] numbers of workers.
        seconds: [n] times, all positive.
    """
    counts = np.unique(workers)
    if len(counts) < 2:
        return None
    terms = np.stack([np.ones_like(workers), 1 / workers], axis=1) / seconds[:, None]
    serial_s, parallel_s = nonnegative(terms, np.ones_like(seconds)).tolist()
    means = np.array([seconds[workers == count].mean() for count in counts])
    error = np.abs((serial_s + parallel_s / counts) / means - 1).mean()
    return AmdahlFit(serial_s=serial_s, parallel_s=parallel_s, points=len(counts), error=float(error))
