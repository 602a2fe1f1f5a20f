"""Settings of study `transfer`: a training profile for network and target data set, and the grids to train."""

from dataclasses import dataclass, field
from typing import Literal

from distdl.core.config import Factor, LearningRate, Text
from distdl.studies.base import Overrides, Repetitions
from distdl.studies.features.grid import LearningRates

Augmentation = Literal["flip", "color", "rotation", "all"]


@dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """AlexNet on Caltech-101; profiles/studies/transfer-*.toml have other networks and data sets."""

    profile: Text = "alexnet-caltech101"
    """Training profile: network, weights, target data set with a validation split, epochs and schedule."""
    overrides: Overrides = field(default_factory=dict)
    """Further overrides, for every training."""
    scratch: Overrides = field(default_factory=lambda: {"model.weights": "none", "data.normalize": "set"})
    """Overrides for training from scratch, which normalizes by mean and standard deviation of the target data set."""
    seeds: Repetitions = 3
    """Number of repetitions of each training, all with the same split of the data set."""
    scratch_rates: LearningRates = (0.001, 0.01, 0.03, 0.05)
    """Learning rates from scratch."""
    rates: LearningRates = (0.001, 0.01, 0.03, 0.1)
    """Learning rates of fine-tuning, the same for all layers."""
    head_rates: LearningRates = (1.0, 0.1, 0.01, 0.001)
    """Learning rates of the last layer on frozen features, which are computed once."""
    lr: LearningRate = 0.01
    """Learning rate of the trainings with frozen parts, rates by part and augmentation: the best published one."""
    factors: tuple[tuple[Text, Factor], ...] = (("features.*", 0.1),)
    """Learning rates by part: factors on `lr` by name pattern, as in optim.lr_factors. Empty disables this training."""
    masks: tuple[Literal["features", "classifier"], ...] = ("features", "classifier")
    """Parts to freeze, each in a separate training from the pretrained weights."""
    augmentations: tuple[Augmentation, ...] = ("flip", "color", "rotation", "all")
    """Augmentations to fine-tune with; each is applied to half of the images."""
    ten_crop: bool = True
    """Whether to also test the networks fine-tuned at `lr` on ten crops per image."""

    def __post_init__(self) -> None:
        if self.ten_crop and self.lr not in self.rates:
            raise ValueError(f"ten_crop tests the networks fine-tuned at lr, but lr {self.lr:g} is not among rates")
