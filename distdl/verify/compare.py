"""Two checkpoints compared value by value."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distdl.core.errors import UserError
from distdl.core.manifest import STATE, read_manifest
from distdl.runtime.tensors import read_tensors

VOLATILE = ("seconds", "phases", "world_size")
"""Parts of a checkpoint's state that differ between two runs of the same training: durations, number of ranks."""


class Difference(NamedTuple):
    """A value that is not the same in both."""

    name: str
    """Dotted path from the checkpoint's root, as "strategy.optimizer.state.0.momentum_buffer"."""
    largest: float
    """Largest absolute difference of two tensors; infinite where shape or kind differ."""


def checkpoints(one: Path, other: Path, *, shards: bool = True) -> list[Difference]:
    """What differs between two checkpoints, bit for bit; empty where nothing does.

    Args:
        shards: compare the files of single ranks and servers too, which exist only for equal numbers of them.
    """
    one_sum, other_sum = (read_manifest(folder)["sha256"] for folder in (one, other))
    found = _states(*(read_tensors(folder / STATE) for folder in (one, other)))
    for file in sorted((one_sum.keys() | other_sum.keys()) - {STATE}) if shards else ():
        if one_sum.get(file) != other_sum.get(file):
            found.extend(_files(one / file, other / file, file))
    return found


def _states(*states: Mapping[str, Any]) -> list[Difference]:
    return differences(*({key: part for key, part in state.items() if key not in VOLATILE} for state in states))


def _files(one: Path, other: Path, name: str) -> list[Difference]:
    """Differences of two files whose bytes are not the same. A file that torch cannot read differs as a whole."""
    try:
        return differences(read_tensors(one), read_tensors(other), name)
    except UserError:
        return [Difference(name, math.inf)]


def differences(one: Any, other: Any, name: str = "") -> list[Difference]:
    """Walk two nested values; report each leaf that differs. A NaN equals itself where its bits do."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return _tensors(one, other, name)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = sorted(set(one) | set(other), key=str)
        pairs = [(key, one.get(key), other.get(key)) for key in keys]
    elif _is_list(one) and _is_list(other) and len(one) == len(other):
        pairs = [(index, *pair) for index, pair in enumerate(zip(one, other, strict=True))]
    else:
        same = type(one) is type(other) and (one == other or (one != one and other != other))
        return [] if same else [Difference(name, _apart(one, other))]
    return [
        difference
        for key, left, right in pairs
        for difference in differences(left, right, f"{name}.{key}" if name else str(key))
    ]


def _tensors(one: torch.Tensor, other: torch.Tensor, name: str) -> list[Difference]:
    if one.shape != other.shape or one.dtype != other.dtype:
        return [Difference(name, math.inf)]
    flat = [tensor.detach().cpu().contiguous().flatten() for tensor in (one, other)]
    if torch.equal(*(tensor.view(torch.uint8) for tensor in flat)) if len(flat[0]) else True:
        return []
    return [Difference(name, float((flat[0].double() - flat[1].double()).abs().max()))]


def _apart(one: Any, other: Any) -> float:
    numbers = all(isinstance(value, int | float) for value in (one, other))
    return abs(float(one) - float(other)) if numbers else math.inf


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
