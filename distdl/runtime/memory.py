"""Memory of a process that computes on a CPU."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""mallopt(3)."""


def keep_freed() -> None:
    """Have malloc keep what is freed for what is asked for next, where it is glibc's; elsewhere do nothing.

    By default glibc gives large blocks back to the kernel, and a training step frees all of its activations: the next
    step then meets a page fault, and zeroes a page, for every 4 KiB that it writes. That is a third of a step of
    MobileNet-V2 on two cores. The price is that the process stays as large as it once was.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
