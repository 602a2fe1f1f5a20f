"""What study `transfer` is told: the network and the target set by a training profile, and which grids to try."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from distdl.studies.base import Overrides, Repetitions
from distdl.studies.features.grid import Rates

Augmentation = Literal["flip", "color", "rotation", "all"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Document 002's AlexNet on Caltech-101; profiles/studies/transfer-*.toml are other networks and sets."""

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
    """Learning rate of what follows: the document's best."""
    factors: tuple[tuple[str, Annotated[float, Field(ge=0)]], ...] = (("features.*", 0.1),)
    """Per-part rates: factors on `lr` by name pattern, as optim.lr_factors. Empty leaves them out."""
    masks: tuple[Literal["features", "classifier"], ...] = ("features", "classifier")
    """Which part is frozen, each in a training of its own, from the pretrained weights."""
    augmentations: tuple[Augmentation, ...] = ("flip", "color", "rotation", "all")
    """Fine-tuning with each; every one changes half of the images."""
    ten_crop: bool = True
    """Test the network fine-tuned at `lr` on ten crops an image too."""

    def __post_init__(self) -> None:
        if self.ten_crop and self.lr not in self.rates:
            raise ValueError(f"lr {self.lr:g} is not among rates, so there is nothing fine-tuned at it to test")
