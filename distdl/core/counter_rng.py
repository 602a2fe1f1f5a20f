"""Randomness from (seed, epoch, ...): the same on any rank, world size and loader, and after any resume.

`generator` returns a generator for whole sets: orders, splits, samples of files. `uniform` returns numbers per sample.
Each of those is a hash of (seed, epoch, sample index, stream) and does not depend on other draws. The hash chains the
finalizer of splitmix64 (Steele, Lea and Flood 2014), whose output on counters passes BigCrush.
"""

import hashlib

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 / golden ratio, odd: the increment of splitmix64."""

STREAMS = {"flip": 0, "crop": 1, "window": 2, "jitter": 3, "rotation": 4, "mix": 5}
"""Ids of the streams. Ids are never reused, so that adding a stream leaves the others unchanged."""


def key(*parts: int) -> np.ndarray:
    """[2] uint64: key of Philox from one or two integers, each modulo 2**64."""
    first, second = (*parts, 0)[:2]
    # Not from a list: numpy converts that through floats if a seed is above 2**63, and different seeds become equal.
    return np.array([first % 2**64, second % 2**64], np.uint64)


def generator(*parts: int, jumps: int = 0) -> np.random.Generator:
    """Generator that is determined by up to two integers; without any, always the same one.

    Philox is counter-based: the numbers of one key do not depend on those of another.

    Args:
        jumps: selects one of many independent generators of the same integers.
    """
    bits = np.random.Philox(key=key(*parts)) if parts else np.random.Philox(0)
    return np.random.Generator(bits.jumped(jumps))


def named_stream(name: str) -> int:
    """Id of the stream of another package's component, from its name; never one of STREAMS."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) | 2**63


def uniform(seed: int, epoch: int, indices: np.ndarray, stream: str | int, count: int = 1) -> np.ndarray:
    """[n, count] float64 in [0, 1) for samples `indices` [n], independent over all arguments.

    Args:
        stream: a name of STREAMS, or the id that `named_stream` returns.
    """
    key = np.array([seed % 2**64], np.uint64)
    for part in (epoch, stream if isinstance(stream, int) else STREAMS[stream]):
        key = _mix(key + np.uint64(GOLDEN)) ^ np.uint64(part)
    samples = _mix(_mix(key) + indices.astype(np.uint64) * np.uint64(GOLDEN))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return (_mix(samples[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64; uint64 arithmetic wraps around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
