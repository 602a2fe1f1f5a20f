"""A log of the samples of each step of a training, across kills and resumes.

A rank appends one row per step to `leg-LEG-rank-RANK.jsonl`. A leg is one start of the training; the first row of its
file has the step that it resumed from. Steps of earlier legs after that step were lost by the kill, so `sample_counts`
drops them: the remaining rows are the samples of the final weights.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distdl.core.errors import UserError
from distdl.core.files import append_rows, read_rows
from distdl.training.events import Callback, Training

if TYPE_CHECKING:
    import torch

    from distdl.data.dataset import Batch

FOLDER, LEG = "DISTDL_VERIFY_SAMPLES", "DISTDL_VERIFY_LEG"
"""Environment variables with the folder of the logs and the number of this leg."""


class SampleLog(Callback):
    """Logs the samples of each step of this rank."""

    def __init__(self, folder: Path, leg: int) -> None:
        self._folder, self._leg = folder, leg
        self._epoch, self._indices = 0, []

    def begin(self, trainer: Training) -> None:
        """Open the log and observe the training loader."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = append_rows(self._folder / f"leg-{self._leg:04d}-rank-{trainer.world.rank}.jsonl")
        self._write({"resumed_from": trainer.progress.step, "pid": os.getpid()})
        loader = trainer.loaders["train"]
        batches = loader.epoch

        def observed(epoch: int, start: int = 0) -> "Iterator[Batch]":
            for batch in batches(epoch, start=start):
                self._epoch, self._indices = epoch, [int(index) for index in batch.indices]
                yield batch

        loader.epoch = observed

    def step_end(self, trainer: Training, loss: "torch.Tensor") -> None:
        """Log the samples of the step."""
        self._write({"step": trainer.progress.step, "epoch": self._epoch, "indices": self._indices})

    def close(self, trainer: Training) -> None:
        """Close the log."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()  # the process may be killed at any moment; flushed data survives


def from_environment() -> SampleLog:
    """Make the log that the environment variables of this process describe.

    Raises:
        UserError: they are not set.
    """
    if FOLDER not in os.environ or LEG not in os.environ:
        raise UserError(f"{FOLDER} and {LEG} are not set: distdl verify-resume starts this program")
    return SampleLog(Path(os.environ[FOLDER]), int(os.environ[LEG]))


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One start of a training."""

    resumed_from: int
    """Step of the checkpoint that it started from; 0 for a new training."""
    steps: dict[int, tuple[int, tuple[int, ...]]]
    """Epoch and sorted sample indices of all ranks, by step."""
    pids: tuple[int, ...]
    """Process ids of the ranks."""

    @property
    def last(self) -> int:
        """Last step that any rank completed."""
        return max(self.steps, default=self.resumed_from)


def read_legs(folder: Path) -> list[Leg]:
    """Read all legs in order, without legs in which no rank started."""
    legs = []
    for number in sorted({file.name.split("-")[1] for file in folder.glob("leg-*-rank-*.jsonl")}):
        resumed_from, steps, pids = 0, {}, []
        for file in sorted(folder.glob(f"leg-{number}-rank-*.jsonl")):
            for row in read_rows(file):
                if "resumed_from" in row:
                    resumed_from = row["resumed_from"]
                    pids.append(row["pid"])
                else:
                    _, indices = steps.get(row["step"], (0, ()))
                    steps[row["step"]] = (row["epoch"], tuple(sorted((*indices, *row["indices"]))))
        legs.append(Leg(resumed_from=resumed_from, steps=steps, pids=tuple(pids)))
    return legs


def sample_counts(legs: list[Leg]) -> dict[int, Counter[int]]:
    """Return for each epoch how often each sample contributed to the final weights, by index."""
    steps: dict[int, tuple[int, tuple[int, ...]]] = {}
    for leg in legs:
        steps = {step: row for step, row in steps.items() if step <= leg.resumed_from} | leg.steps
    epochs: dict[int, Counter[int]] = {}
    for epoch, indices in steps.values():
        epochs.setdefault(epoch, Counter()).update(indices)
    return epochs
