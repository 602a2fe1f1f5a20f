"""The samples that a training has seen, written down step by step, also across kills and resumes.

A rank appends one row per step to `leg-LEG-rank-RANK.jsonl`. A leg is one start of the training; the first row of its
file states the step that it resumed from. What earlier legs did after that step was lost in the kill, so `read` drops
it: the remaining rows are the samples behind the final weights.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distdl.core.files import read_rows
from distdl.training.events import Callback

if TYPE_CHECKING:
    import torch

    from distdl.data.dataset import Batch
    from distdl.training.trainer import Trainer

FOLDER, LEG = "DISTDL_VERIFY_SAMPLES", "DISTDL_VERIFY_LEG"
"""Variables by which a rank knows the folder of the logs and the number of this leg."""


class SampleLog(Callback):
    """Writes down the samples of each step of this rank."""

    def __init__(self, folder: Path, leg: int) -> None:
        self._folder, self._leg = folder, leg
        self._epoch, self._indices = 0, []

    def begin(self, trainer: "Trainer") -> None:
        """Open the log and listen at the training loader."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = (self._folder / f"leg-{self._leg:04d}-rank-{trainer.world.rank}.jsonl").open("a", encoding="utf-8")
        self._write({"resumed_from": trainer.progress.step, "pid": os.getpid()})
        loader = trainer.loaders["train"]
        batches = loader.epoch

        def observed(epoch: int, start: int = 0) -> "Iterator[Batch]":
            for batch in batches(epoch, start=start):
                self._epoch, self._indices = epoch, [int(index) for index in batch.indices]
                yield batch

        loader.epoch = observed

    def step_end(self, trainer: "Trainer", loss: "torch.Tensor") -> None:
        """The weights now contain this step's samples."""
        self._write({"step": trainer.progress.step, "epoch": self._epoch, "indices": self._indices})

    def close(self, trainer: "Trainer") -> None:
        """Close the log."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()  # the process may be killed at any moment; the kernel keeps what it has been given


def from_environment() -> SampleLog:
    """The log that the variables of this process ask for."""
    return SampleLog(Path(os.environ[FOLDER]), int(os.environ[LEG]))


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One start of a training."""

    resumed_from: int
    """Step of the checkpoint that it started from; 0 is the beginning."""
    steps: dict[int, tuple[int, tuple[int, ...]]]
    """By step: the epoch, and the indices of all ranks, sorted."""
    pids: tuple[int, ...]
    """Processes of the ranks."""

    @property
    def last(self) -> int:
        """The last step that any rank finished."""
        return max(self.steps, default=self.resumed_from)


def read_legs(folder: Path) -> list[Leg]:
    """All legs, in order; a leg in which no rank began is left out."""
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


def seen(legs: list[Leg]) -> dict[int, Counter[int]]:
    """How often the final weights have seen each sample: counts by index, for each epoch."""
    steps: dict[int, tuple[int, tuple[int, ...]]] = {}
    for leg in legs:
        steps = {step: row for step, row in steps.items() if step <= leg.resumed_from} | leg.steps
    epochs: dict[int, Counter[int]] = {}
    for epoch, indices in steps.values():
        epochs.setdefault(epoch, Counter()).update(indices)
    return epochs
