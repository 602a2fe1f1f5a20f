"""Published validation and test accuracies of two experiments with AlexNet, in per cent."""

from dataclasses import dataclass

SOURCE = "AlexNet on all 101 classes of Caltech-101"


@dataclass(frozen=True)
class Printed:
    """A row of the published tables."""

    kind: str
    """Kind of attempt, a key of `trials.TITLES`."""
    lr: float
    validation: float
    test: float


ROWS = (
    Printed("scratch", 0.001, 16.1, 9.2),
    Printed("scratch", 0.01, 43.2, 42.5),
    Printed("scratch", 0.05, 53.7, 55.0),
    Printed("scratch", 0.03, 52.8, 53.2),
    Printed("finetune", 0.03, 84.9, 83.4),
    Printed("finetune", 0.01, 87.9, 87.1),
    Printed("freeze-features", 0.01, 86.0, 85.6),
    Printed("freeze-classifier", 0.01, 49.1, 48.9),
    Printed("augment-flip", 0.01, 87.3, 86.1),
    Printed("augment-color", 0.01, 87.2, 87.2),
    Printed("augment-rotation", 0.01, 86.1, 85.3),
    Printed("augment-all", 0.01, 85.7, 85.6),
    Printed("ten-crop", 0.01, 86.8, 87.2),
)
THREE_ATTEMPTS = {"scratch": 57.78, "extractor": 65.56, "finetune": 71.92}
"""The AlexNet leaderboard experiment: from scratch, frozen pretrained features, fine-tuned features."""
FIRST_EPOCH = 72.0
"""Accuracy of the pretrained network after its first epoch of fine-tuning."""

DENSE_SHARE = 96.0
"""Per cent of AlexNet's parameters in its three dense layers: 54.9 of 57.4 million with 102 classes."""


def at(kind: str, lr: float) -> Printed | None:
    """Return the published row for an attempt at a learning rate."""
    return next((row for row in ROWS if (row.kind, row.lr) == (kind, lr)), None)


def best(kind: str) -> Printed | None:
    """Return the published row of an attempt with the best validation accuracy."""
    return max((row for row in ROWS if row.kind == kind), key=lambda row: row.validation, default=None)
