"""Comparison of two checkpoints, value by value."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distdl.core.errors import UserError
from distdl.core.manifest import STATE, read_manifest
from distdl.runtime.tensors import read_tensors

VOLATILE = ("seconds", "phases", "world_size")
"""Parts of a state that differ between two runs of the same training: durations and the number of ranks."""


class Difference(NamedTuple):
    """A value that differs."""

    name: str
    """Dotted path from the root of the checkpoint, such as "strategy.optimizer.state.0.momentum_buffer"."""
    largest: float
    """Largest absolute difference of two tensors; infinite if shape or type differ."""


def checkpoints(expected: Path, actual: Path, *, shards: bool = True) -> list[Difference]:
    """Return the values of two checkpoints that are not bitwise equal.

    Args:
        shards: also compare the shards of ranks and servers, which requires equal numbers of them.
    """
    expected_sums, actual_sums = (read_manifest(folder)["sha256"] for folder in (expected, actual))
    differing = _states(read_tensors(expected / STATE), read_tensors(actual / STATE))
    for file in sorted((expected_sums.keys() | actual_sums.keys()) - {STATE}) if shards else ():
        if expected_sums.get(file) != actual_sums.get(file):
            differing.extend(_files(expected / file, actual / file, file))
    return differing


def _states(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[Difference]:
    return differences(_stable(expected), _stable(actual))


def _stable(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in state.items() if key not in VOLATILE}


def _files(expected: Path, actual: Path, name: str) -> list[Difference]:
    """Differences of two files with different bytes. A file that torch cannot read counts as one difference."""
    try:
        return differences(read_tensors(expected), read_tensors(actual), name)
    except UserError:
        return [Difference(name, math.inf)]


def differences(expected: Any, actual: Any, name: str = "") -> list[Difference]:
    """Compare two nested values. Returns the leaves that differ; a NaN equals a NaN with the same bits."""
    if isinstance(expected, torch.Tensor) and isinstance(actual, torch.Tensor):
        return _tensors(expected, actual, name)
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        keys = sorted(set(expected) | set(actual), key=str)
        pairs = [(key, expected.get(key), actual.get(key)) for key in keys]
    elif _is_list(expected) and _is_list(actual) and len(expected) == len(actual):
        pairs = [(index, *pair) for index, pair in enumerate(zip(expected, actual, strict=True))]
    else:
        same = type(expected) is type(actual) and (expected == actual or (expected != expected and actual != actual))
        return [] if same else [Difference(name, _distance(expected, actual))]
    return [
        difference
        for key, first, second in pairs
        for difference in differences(first, second, f"{name}.{key}" if name else str(key))
    ]


def _tensors(expected: torch.Tensor, actual: torch.Tensor, name: str) -> list[Difference]:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return [Difference(name, math.inf)]
    flat = [tensor.detach().cpu().contiguous().flatten() for tensor in (expected, actual)]
    if torch.equal(*(tensor.view(torch.uint8) for tensor in flat)) if len(flat[0]) else True:
        return []
    return [Difference(name, float((flat[0].double() - flat[1].double()).abs().max()))]


def _distance(expected: Any, actual: Any) -> float:
    numbers = all(isinstance(value, int | float) for value in (expected, actual))
    return abs(float(expected) - float(actual)) if numbers else math.inf


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
