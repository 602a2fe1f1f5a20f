"""Counter-based random numbers per sample: the same on any rank, world size and loader, and after any resume.

Each number is a hash of (seed, epoch, sample index, stream), and does not depend on the numbers drawn before. The hash
chains the finalizer of splitmix64 (Steele, Lea and Flood 2014), whose output on counters passes BigCrush.
"""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 / golden ratio, odd: the increment of splitmix64."""

STREAMS = {"flip": 0, "crop": 1, "window": 2, "jitter": 3, "rotation": 4, "mix": 5}
"""Ids of the streams. Ids are never reused, so that adding a stream leaves the others unchanged."""


def uniform(seed: int, epoch: int, indices: np.ndarray, stream: str, count: int = 1) -> np.ndarray:
    """[n, count] float64 in [0, 1) for samples `indices` [n], independent over all arguments."""
    key = np.array([seed % 2**64], np.uint64)
    for part in (epoch, STREAMS[stream]):
        key = _mix(key + np.uint64(GOLDEN)) ^ np.uint64(part)
    samples = _mix(_mix(key) + indices.astype(np.uint64) * np.uint64(GOLDEN))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return (_mix(samples[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64; uint64 arithmetic wraps around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
