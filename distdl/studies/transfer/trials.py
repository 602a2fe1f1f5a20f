"""Attempts on the target data set, and their trials."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Trial
from distdl.studies.features.grid import grid_table
from distdl.studies.transfer.settings import TransferSettings

CALLS = "distdl.studies.transfer.tasks"
AUGMENTED: dict[str, Overrides] = {
    "flip": {"data.augment.flip": 0.5},
    "color": {"data.augment.color_jitter": 0.5},
    "rotation": {"data.augment.rotation": 20.0, "data.augment.rotation_probability": 0.5},
}
TITLES = {
    "scratch": "from scratch",
    "extractor": "feature extractor",
    "finetune": "fine-tuned",
    "parts": "fine-tuned, rates by part",
    "freeze-features": "convolutions frozen",
    "freeze-classifier": "classifier frozen",
    "augment-flip": "fine-tuned, flip",
    "augment-color": "fine-tuned, color jitter",
    "augment-rotation": "fine-tuned, rotation",
    "augment-all": "fine-tuned, all three",
    "ten-crop": "fine-tuned, ten crops",
}
"""Name of each kind of attempt on a page, in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Settings of a training except the seed."""

    kind: str
    """A key of TITLES."""
    lr: float
    overrides: Overrides = field(default_factory=dict)
    """Overrides that distinguish it from the other attempts."""

    def name(self, seed: int) -> str:
        """Name of its trial."""
        return f"{self.kind}-lr{self.lr:g}-seed{seed}"


def attempts(settings: TransferSettings) -> list[Attempt]:
    """Return all attempts that are trainings; the feature extractor's grid is a single trial instead."""
    listed = [Attempt(kind="scratch", lr=lr, overrides=settings.scratch) for lr in settings.scratch_rates]
    listed += [Attempt(kind="finetune", lr=lr) for lr in settings.rates]
    if settings.factors:
        listed.append(Attempt(kind="parts", lr=settings.lr, overrides={"optim.lr_factors": settings.factors}))
    for part in settings.masks:
        mask = {f"model.trainable_{part}": (False,)}
        listed.append(Attempt(kind=f"freeze-{part}", lr=settings.lr, overrides=mask))
    for name in settings.augmentations:
        overrides = AUGMENTED[name] if name != "all" else dict(ChainMap(*map(dict, AUGMENTED.values())))
        listed.append(Attempt(kind=f"augment-{name}", lr=settings.lr, overrides=overrides))
    return listed


def trials(settings: TransferSettings) -> list[Trial]:
    """Return the description, the extractor's grid, each attempt with each seed, and measurements on their results."""
    common = Recipe(profile=settings.profile, overrides=settings.overrides)
    trained = [
        Trial(
            name=attempt.name(seed),
            # Keep one checkpoint in addition to the best, because a study has dozens of runs.
            recipe=common.updated({**attempt.overrides, "optim.lr": attempt.lr, "seed": seed, "checkpoint.keep": 1}),
            labels={"attempt": attempt.kind, "lr": attempt.lr, "seed": seed},
        )
        for seed in range(settings.seeds)
        for attempt in attempts(settings)
    ]
    listed = [
        Trial(
            name="target",
            call=f"{CALLS}:describe",
            settings={"recipe": asdict(common)},
            labels={"attempt": "description"},
        ),
        Trial(
            name="extractor",
            call="distdl.studies.features.extract:grid",
            settings=grid_table(common, settings.head_rates, settings.seeds),
            labels={"attempt": "extractor", "lr": ", ".join(f"{lr:g}" for lr in settings.head_rates)},
        ),
        *trained,
    ]
    if moved := tuple(
        attempt.name(0) for attempt in attempts(settings) if attempt.kind in MOVED and attempt.lr == settings.lr
    ):
        listed.append(_measured("moved", {"runs": moved}))
    if settings.ten_crop:
        tuned = Attempt(kind="finetune", lr=settings.lr)
        runs = tuple(tuned.name(seed) for seed in range(settings.seeds))
        listed.append(_measured("ten_crop", {"runs": runs}))
    return listed


MOVED = ("finetune", "parts", "freeze-features", "freeze-classifier")
"""Attempts whose weights are compared with their initial weights."""


def _measured(function: str, table: Mapping[str, tuple[str, ...]]) -> Trial:
    name = function.replace("_", "-")
    return Trial(name=name, call=f"{CALLS}:{function}", settings=table, after=table["runs"], labels={"attempt": name})
