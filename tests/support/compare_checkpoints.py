"""Comparison of two checkpoints, with all parts of the state, including parts that are added later."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.manifest import STATE, read_manifest

MEASURED = (
    *("state.seconds", "state.phases", "progress.elapsed_s"),
    *("progress.resumes",),
)
"""Measured durations, and the number of resumes."""


def assert_equal_checkpoints(first_run: Path, second_run: Path, ignore: Sequence[str] = MEASURED) -> None:
    """Fail unless the newest checkpoints of two runs have the same bits.

    Compares state.pt, every shard, and the position in the manifest. Dotted names that begin with one of `ignore`
    are not compared, but must be in both.
    """
    first, second = (dict(checkpoint_values(run)) for run in (first_run, second_run))
    assert first.keys() == second.keys(), f"only in one: {sorted(first.keys() ^ second.keys())}"
    compared = [name for name in first if not any(name == part or name.startswith(f"{part}.") for part in ignore)]
    assert compared
    different = [name for name in compared if not _same(first[name], second[name])]
    assert not different, f"different: {different}"


def checkpoint_values(run: Path) -> Iterator[tuple[str, Any]]:
    """Every value of a run's newest checkpoint, by dotted name."""
    folder = find(run, warn=pytest.fail)
    manifest = read_manifest(folder)
    yield from _walk("progress", manifest["progress"])
    yield "metric", manifest["metric"]
    for file in sorted(folder.rglob("*.pt")):
        name = "state" if file.name == STATE else str(file.relative_to(folder))
        yield from _walk(name, torch.load(file, map_location="cpu", weights_only=False))


def _walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield f"{name}.keys", sorted(map(str, value))
        for key, inner in value.items():
            yield from _walk(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        yield f"{name}.length", len(value)
        for index, inner in enumerate(value):
            yield from _walk(f"{name}.{index}", inner)
    elif type(value).__module__.startswith("deepspeed.") and not isinstance(value, Enum):
        yield from _walk(name, vars(value))
    else:
        yield name, value


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        if not isinstance(second, torch.Tensor) or first.dtype != second.dtype or first.shape != second.shape:
            return False
        # By bytes: NaN equals itself, 0 and -0 differ.
        first, second = (
            tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for tensor in (first, second)
        )
        return first == second
    return type(first) is type(second) and first == second
