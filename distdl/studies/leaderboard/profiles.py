"""Training profiles in alternation."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingProfile:
    """What one epoch is trained with, by name."""

    name: str
    lr: float
    momentum: float
    weight_decay: float = 5e-4


DOCUMENT = (
    TrainingProfile(name="alex", lr=1e-2, momentum=0.9),
    TrainingProfile(name="1e-3", lr=1e-3, momentum=0.9),
    TrainingProfile(name="1e-4", lr=1e-4, momentum=0.5),
    TrainingProfile(name="1e-5", lr=1e-5, momentum=0.5),
    TrainingProfile(name="walter", lr=1e-6, momentum=0.1),
)
"""Document 000's. It prints the first and the last, and says of those between only that the rate went from 1e-2 to
1e-6 and the momentum over 0.9, 0.5 and 0.1."""


def profile_at(profiles: Sequence[TrainingProfile], epoch: int, tries: int) -> TrainingProfile:
    """The profile of the next epoch from a checkpoint: each in turn, whoever trains, and after however many restarts.

    Args:
        epoch: epochs behind the checkpoint, as its own counter has it.
        tries: epochs that were trained from it before. Without them a slot whose turn it is for a rate that does not
            improve it would get that rate again each time, and the board would stand still.
    """
    return profiles[(epoch + tries) % len(profiles)]
