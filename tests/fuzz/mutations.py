"""Kinds of damage to a file: truncation, flipped bits, bursts, zeros, repeated and missing ranges."""

import random
from collections.abc import Callable

Mutation = Callable[[bytearray, random.Random], bytearray]


def cut(data: bytearray, rng: random.Random) -> bytearray:
    """Truncate the file."""
    return data[: rng.randrange(len(data))] if data else data


def flip_bit(data: bytearray, rng: random.Random) -> bytearray:
    """Flip one bit."""
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def burst(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite up to 30 bytes at random places."""
    for _ in range(30 if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def header(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite 3 of the first 64 bytes."""
    for _ in range(3 if data else 0):
        data[rng.randrange(min(64, len(data)))] = rng.randrange(256)
    return data


def zeros(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite up to 512 consecutive bytes with zeros: a lost sector."""
    if data:
        start = rng.randrange(len(data))
        data[start : start + 512] = bytes(min(512, len(data) - start))
    return data


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    """Repeat a range of bytes."""
    if data:
        start = rng.randrange(len(data))
        data[start:start] = data[start : start + rng.randrange(1, 700)]
    return data


def remove(data: bytearray, rng: random.Random) -> bytearray:
    """Remove a range of bytes."""
    if data:
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 700)]
    return data


MUTATIONS: tuple[Mutation, ...] = (cut, flip_bit, burst, header, zeros, repeat, remove)


def mutate(data: bytes, seed: int) -> bytes:
    """Damage `data` as determined by `seed`: the same bytes for the same seed on every machine."""
    return bytes(MUTATIONS[seed % len(MUTATIONS)](bytearray(data), random.Random(seed)))
