"""Settings and trials of study `leaderboard`: the processes of each attempt, then the test of its best slot."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from distdl.core.config import Count, Positive, Text, Timeout
from distdl.core.paths import inside
from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.leaderboard.profiles import PUBLISHED, TrainingProfile

AttemptKind = Literal["scratch", "frozen", "fine-tuned"]

PUBLISHED_ACCURACY: dict[str, float] = {"scratch": 0.5778, "frozen": 0.6556, "fine-tuned": 0.7192}
"""Best slots of the published boards, by attempt. Their scores and their selection use the test data."""


@dataclass(frozen=True, kw_only=True)
class LeaderboardSettings:
    """Settings of the AlexNet leaderboard experiment, as far as they are published."""

    attempts: tuple[AttemptKind, ...] = ("scratch", "frozen", "fine-tuned")
    """scratch: no pretrained weights; frozen: pretrained features, not trained; fine-tuned: pretrained features, of
    which all blocks but the first are trained. The classifier always starts from scratch."""
    population: tuple[AttemptKind, ...] = ("scratch", "frozen", "fine-tuned")
    """Attempts to repeat with population-based training, with the same slots and epochs."""
    slots: Positive = 5
    """Number of slots of each board."""
    processes: Repetitions = 2
    """Number of processes that share each board, one device each."""
    profiles: tuple[TrainingProfile, ...] = PUBLISHED
    """Alternating training profiles; initial settings of a population."""
    total_lifetime_s: Timeout = 259200.0
    """Compute time of an attempt in seconds, over all processes and slices, after which the attempt ends."""
    slice_s: Timeout = 2400.0
    """Length of a process's slice in seconds; then the process stops and is queued again."""
    epochs: Count = 0
    """Number of epochs of an attempt, over all processes. 0: only total_lifetime_s ends it."""
    network: Text = "alexnet"
    weights: Text = "torchvision"
    """Pretrained features: torchvision, or a file, as for model.weights."""
    profile: Text = "alexnet-leaderboard"
    """Training profile of all attempts."""
    overrides: Overrides = field(default_factory=dict)
    """Further overrides, for all attempts."""
    seeds: Repetitions = 1
    """Number of repetitions of each attempt."""


BOARDS = "boards"


def board_of(folder: Path, table: Mapping[str, Any]) -> Path:
    """Folder of a trial's board under STUDY/boards, which several trials share.

    Args:
        folder: folder of the trial.
        table: settings of the trial.
    """
    return inside(folder.parents[1] / BOARDS, table["board"], folder)


def boards(settings: LeaderboardSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each board's name, and its attempt, rule and seed."""
    for seed in range(settings.seeds):
        for rule, attempts in (("ratchet", settings.attempts), ("population", settings.population)):
            for attempt in attempts:
                yield f"{attempt}-{rule}-seed{seed}", {"attempt": attempt, "rule": rule, "seed": seed}


def trials(settings: LeaderboardSettings) -> list[Trial]:
    """Return the trials, those of each board one after another, so that trials that run at the same time share one."""
    listed = [
        _trial(settings, board, labels, f"process{process}", call="worker:work")
        for board, labels in boards(settings)
        for process in range(settings.processes)
    ]
    for board, labels in boards(settings):
        processes = tuple(f"{board}-process{process}" for process in range(settings.processes))
        listed.append(_trial(settings, board, labels, "top", call="worker:top", depends_on=processes))
    return listed


def _trial(
    settings: LeaderboardSettings,
    board: str,
    labels: dict[str, Any],
    part: str,
    *,
    call: str,
    depends_on: tuple[str, ...] = (),
) -> Trial:
    copied = ("slots", "total_lifetime_s", "slice_s", "epochs")
    table = {name: getattr(settings, name) for name in copied}
    table |= {"profiles": [asdict(profile) for profile in settings.profiles], "board": board, **labels}
    return Trial(
        name=f"{board}-{part}",
        call=f"distdl.studies.leaderboard.{call}",
        settings={**table, "recipe": asdict(recipe(settings, labels["attempt"], labels["seed"]))},
        after=depends_on,
        labels={**labels, "part": part},
    )


def recipe(settings: LeaderboardSettings, attempt: str, seed: int) -> Recipe:
    """Return the training of an attempt."""
    base = Recipe(profile=settings.profile, overrides=settings.overrides)
    base = base.updated({"model.name": settings.network, "seed": seed})
    if attempt == "scratch":
        return base.updated({"model.weights": "none"})
    return base.updated(
        {
            "model.weights": settings.weights,
            "model.weights_part": "features",
            "model.trainable_features": [False] if attempt == "frozen" else [False, True],
        }
    )
