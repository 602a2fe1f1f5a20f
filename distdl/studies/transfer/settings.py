"""Settings of study `transfer`: a training profile gives the network and the target set; the grids to try."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from distdl.studies.base import Overrides, Repetitions
from distdl.studies.features.grid import Rates

Augmentation = Literal["flip", "color", "rotation", "all"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """AlexNet on Caltech-101; profiles/studies/transfer-*.toml are other networks and sets."""

    profile: str = "alexnet-caltech101"
    """Training profile: network, weights, target set with a validation part, epochs and schedule."""
    overrides: Overrides = field(default_factory=dict)
    """Further overrides, for every training."""
    scratch: Overrides = field(default_factory=lambda: {"model.weights": "none", "data.normalize": "set"})
    """Overrides of a training from scratch, which is normalized by its own set's mean and deviation."""
    seeds: Repetitions = 3
    """Repetitions of each training. They share the division of the set."""
    scratch_rates: Rates = (0.001, 0.01, 0.03, 0.05)
    """Learning rates from scratch."""
    rates: Rates = (0.001, 0.01, 0.03, 0.1)
    """Learning rates of fine-tuning, the same for all layers."""
    head_rates: Rates = (1.0, 0.1, 0.01, 0.001)
    """Learning rates of the last layer on frozen features, which are computed once."""
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Learning rate of the following trainings: the best published one."""
    factors: tuple[tuple[str, Annotated[float, Field(ge=0)]], ...] = (("features.*", 0.1),)
    """Per-part rates: factors on `lr` by name pattern, as optim.lr_factors. Empty leaves them out."""
    masks: tuple[Literal["features", "classifier"], ...] = ("features", "classifier")
    """Parts to freeze, each in its own training, from the pretrained weights."""
    augmentations: tuple[Augmentation, ...] = ("flip", "color", "rotation", "all")
    """Augmentations to fine-tune with; each changes half of the images."""
    ten_crop: bool = True
    """Whether to test the network fine-tuned at `lr` on ten crops per image too."""

    def __post_init__(self) -> None:
        if self.ten_crop and self.lr not in self.rates:
            raise ValueError(f"lr {self.lr:g} is not among rates, so there is nothing fine-tuned at it to test")
