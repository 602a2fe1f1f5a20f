"""Detection of stragglers: workers whose compute time is an outlier."""

import statistics
from collections.abc import Mapping, Sequence

WINDOW, DEVIATIONS, SHARE = 20, 6.0, 1.2
"""A worker is a straggler if its median compute time over WINDOW steps exceeds the others' median by DEVIATIONS median
absolute deviations, and by a factor of SHARE, because on an idle machine the deviation is close to zero."""


def find_straggler(compute_s: Mapping[int, Sequence[float]]) -> int:
    """Return the worker that is a straggler, or -1.

    Args:
        compute_s: compute times of the last steps of each worker, in seconds.
    """
    medians = {worker: statistics.median(times) for worker, times in compute_s.items() if len(times) == WINDOW}
    if len(medians) < 3:  # with two workers the slow one cannot be distinguished from a fast one
        return -1
    slowest = max(medians, key=medians.__getitem__)
    others = [median for worker, median in medians.items() if worker != slowest]
    middle = statistics.median(others)
    deviation = statistics.median(abs(median - middle) for median in others)
    limit_s = max(middle + DEVIATIONS * deviation, middle * SHARE)
    return slowest if medians[slowest] > limit_s else -1
