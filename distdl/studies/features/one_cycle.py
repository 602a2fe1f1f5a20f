"""Training used by the studies of labels: AdamW with a one-cycle schedule, evaluated and saved once at the end."""

from collections.abc import Mapping
from typing import Any

from distdl.core.profiles import Recipe


def one_cycle(
    *,
    data: str,
    network: str,
    steps: int,
    lr: float,
    seed: int,
    batch_size: int,
    flip: float = 0.0,
    crop: int = 0,
    overrides: Mapping[str, Any],
) -> Recipe:
    """Return the recipe of one training.

    Args:
        steps: length of the training and of the schedule.
        lr: peak learning rate.
        flip, crop: as in data.augment; 0 disables them.
        overrides: further overrides, such as labels and initial weights.
    """
    augment = {name: value for name, value in (("flip", flip), ("crop", crop)) if value}
    return Recipe(
        profile="mnist-fast",
        overrides={
            "data.name": data,
            "model.name": network,
            "seed": seed,
            "data.batch_size": batch_size,
            "optim.lr": lr,
            "max_steps": steps,
            "epochs": steps,
            "evaluate_every": steps,
            "checkpoint.every_epochs": 0,
            "telemetry.hz": 0,
            **{f"data.augment.{name}": value for name, value in augment.items()},
            **overrides,
        },
    )
