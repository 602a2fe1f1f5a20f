"""The trial that trains a grid of last layers on the features of a frozen network: `features.extract.grid` runs it."""

from dataclasses import asdict
from typing import Any

from distdl.core.config import LearningRate
from distdl.core.profiles import Recipe

LearningRates = tuple[LearningRate, ...]
"""Learning rates."""


def grid_table(recipe: Recipe, rates: LearningRates, seeds: int) -> dict[str, Any]:
    """Return the trial's settings: network and data set by `recipe`, a last layer per learning rate and seed."""
    return {"recipe": asdict(recipe), "rates": rates, "seeds": seeds}
