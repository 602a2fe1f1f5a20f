"""Comparison of an uninterrupted training with trainings that are killed and resumed."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distdl.core.config import Config
from distdl.core.profiles import Recipe
from distdl.verify import compare
from distdl.verify.samples import sample_counts
from distdl.verify.trial import TrainingUnderTest, kill_during_training


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The training to verify, and the number of kills."""

    config: Config
    """The training."""
    recipe: Recipe
    """The recipe of `config`."""
    folder: Path
    """Folder for the trainings."""
    ranks: int
    kills: int
    other_ranks: int
    """Number of ranks for one additional kill and resume; 0 disables it."""
    steps: int
    seed: int

    @property
    def resumed_on(self) -> list[int]:
        """Number of ranks after each kill."""
        return [self.ranks] * self.kills + [self.other_ranks] * bool(self.other_ranks)

    def training(self, name: str) -> TrainingUnderTest:
        """Return one of the trainings: `config` with few steps and frequent checkpoints."""
        fixed = {
            "max_steps": self.steps,
            "checkpoint.every_steps": max(self.steps // 12, 1),
            "data.global_batch": self.config.data.step_samples(self.ranks),  # the same on any number of ranks
            "progress": "none",
            "telemetry.hz": 0,
        }
        return TrainingUnderTest(
            recipe=self.recipe.updated(fixed),
            strategy=self.config.strategy,
            servers=self.config.ps.servers if self.config.strategy == "ps" else 0,
            folder=self.folder / name,
        )


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Result of one kill."""

    ranks: int
    resumed_on: int
    """Ranks after the kill."""
    victims: str
    """Killed processes: "all" or "one rank"."""
    killed_after: int
    """Last completed step."""
    resumed_from: int
    """Step of the checkpoint; 0 without one."""
    model: float
    """Largest difference of a weight or buffer; 0 if all bits are equal."""
    optimizer: float
    """Largest difference of other values in the checkpoint; 0 if all bits are equal."""
    samples: bool
    """Whether the final weights were trained on the same samples in each epoch as without the kill."""

    @property
    def verdict(self) -> str:
        """ "exact"; "same samples" on another number of ranks, where sums round differently; or "NOT EXACT"."""
        if self.samples and self.model == self.optimizer == 0:
            return "exact"
        return "same samples" if self.samples and self.ranks != self.resumed_on else "NOT EXACT"

    @property
    def holds(self) -> bool:
        """Whether the resume is as exact as possible for these numbers of ranks."""
        return self.verdict != "NOT EXACT"


def prove(proof: Proof) -> Iterator[Kill]:
    """Train without a kill; then kill, resume and compare one training after the other.

    Raises:
        Failure: if a training fails without a kill, or cannot be killed before it ends.
    """
    rng = random.Random(proof.seed)
    uncut = proof.training("uncut")
    last = uncut.finish(proof.ranks)
    samples = sample_counts(uncut.legs())
    for number, ranks in enumerate(proof.resumed_on, start=1):
        training = proof.training(f"kill-{number}")
        one_rank = proof.ranks > 1 and rng.random() < 0.5
        killed = kill_during_training(training, proof.ranks, proof.steps, rng, one_rank=one_rank)
        checkpoint = training.finish(ranks)
        kill = Kill(
            ranks=proof.ranks,
            resumed_on=ranks,
            victims="one rank" if one_rank else "all",
            killed_after=killed.last,
            resumed_from=training.legs()[-1].resumed_from,
            samples=sample_counts(training.legs()) == samples,
            **_largest(last, checkpoint, shards=ranks == proof.ranks),
        )
        if kill.holds:
            shutil.rmtree(training.folder)
        yield kill


def _largest(expected: Path, checkpoint: Path, *, shards: bool) -> dict[str, float]:
    largest = {"model": 0.0, "optimizer": 0.0}
    for difference in compare.checkpoints(expected, checkpoint, shards=shards):
        part = "model" if difference.name.startswith("model.") else "optimizer"
        largest[part] = max(largest[part], difference.largest)
    return largest
