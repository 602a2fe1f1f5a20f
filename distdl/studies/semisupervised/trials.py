"""One set with a share of its labels and a seed: names and recipes of its trainings."""

from dataclasses import dataclass

from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides
from distdl.studies.features.one_cycle import one_cycle

IMAGES = {"cifar10": 50_000, "mnist": 60_000}
"""Of the training list."""


@dataclass(frozen=True, kw_only=True)
class Case:
    data: str
    share: float
    """Of the training images that keep their labels."""
    seed: int
    teacher: str
    student: str
    batch_size: int
    augment: bool

    def name(self, part: str, *choice: int) -> str:
        """Of a trial; `choice` is K and P."""
        more = "".join(f"-{letter}{value}" for letter, value in zip("kp", choice, strict=False))
        return f"{self.data}-{self.share:g}-seed{self.seed}-{part}{more}"

    @property
    def labels(self) -> int:
        """Images that keep their labels."""
        return round(self.share * IMAGES[self.data])

    @property
    def labelled(self) -> Overrides:
        """Overrides that train on these only. The seed draws them, so that the spread includes the choice of images."""
        return {"data.limit": self.labels, "data.split_seed": self.seed}

    def recipe(self, network: str, steps: int, lr: float, overrides: Overrides) -> Recipe:
        """A training of `network`; `overrides` give its labels and initial weights."""
        return one_cycle(
            data=self.data,
            network=network,
            steps=steps,
            lr=lr,
            seed=self.seed,
            batch_size=self.batch_size,
            flip=0.5 if self.augment else 0.0,
            crop=4 if self.augment else 0,
            overrides=overrides,
        )
