"""Alternating training profiles."""

from collections.abc import Sequence
from dataclasses import dataclass

from distdl.core.config import LearningRate, Rate, Share, Text


@dataclass(frozen=True, kw_only=True)
class TrainingProfile:
    """Settings of one epoch of training, with a name."""

    name: Text
    lr: LearningRate
    momentum: Share
    weight_decay: Rate = 5e-4


PUBLISHED = (
    TrainingProfile(name="alex", lr=1e-2, momentum=0.9),
    TrainingProfile(name="1e-3", lr=1e-3, momentum=0.9),
    TrainingProfile(name="1e-4", lr=1e-4, momentum=0.5),
    TrainingProfile(name="1e-5", lr=1e-5, momentum=0.5),
    TrainingProfile(name="walter", lr=1e-6, momentum=0.1),
)
"""Profiles of the AlexNet leaderboard experiment. The first and the last are published; of the others, only the range
of learning rates (1e-2 to 1e-6) and the values of momentum (0.9, 0.5, 0.1)."""


def profile_at(profiles: Sequence[TrainingProfile], epoch: int, tries: int) -> TrainingProfile:
    """Return the profile of the next epoch from a checkpoint: each in turn, independent of processes and restarts.

    Args:
        epoch: number of epochs of the checkpoint.
        tries: number of epochs that were already trained from it. It is added so that a slot does not always get the
            same learning rate, even if that rate does not improve it.
    """
    return profiles[(epoch + tries) % len(profiles)]
