"""The study's settings, and the trials that they ask for: the processes of each attempt, and then its top, tested."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.leaderboard.profiles import DOCUMENT, TrainingProfile

Attempt = Literal["scratch", "frozen", "fine-tuned"]
Positive = Annotated[int, Field(gt=0)]

DOCUMENT_ACCURACY: dict[str, float] = {"scratch": 0.5778, "frozen": 0.6556, "fine-tuned": 0.7192}
"""Tops of document 000's boards, by attempt. Its scores and its choice of the top are both on the test data."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Document 000's, as far as it gives them."""

    attempts: tuple[Attempt, ...] = ("scratch", "frozen", "fine-tuned")
    """scratch: nothing pretrained, all trains; frozen: pretrained features that stay; fine-tuned: pretrained features
    of which all but the first block train. The classifier always begins from scratch."""
    population: tuple[Attempt, ...] = ("scratch", "frozen", "fine-tuned")
    """Attempts that are made by population-based training too, with the same slots and epochs."""
    slots: Positive = 5
    """Of each board."""
    processes: Repetitions = 2
    """That work on each board at the same time, one device each."""
    profiles: tuple[TrainingProfile, ...] = DOCUMENT
    """In alternation; a population begins with them."""
    total_lifetime_s: Annotated[float, Field(gt=0)] = 259200.0
    """Compute time of an attempt, over all processes and slices; after it the attempt is over."""
    eon_lifetime_s: Annotated[float, Field(gt=0)] = 2400.0
    """Length of a process's slice; after it the process stops in order, and queues itself again."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Of an attempt, over all processes; after them the attempt is over. 0: only the lifetime ends it."""
    network: str = "alexnet"
    weights: str = "torchvision"
    """Of the pretrained features: torchvision, or a file, as model.weights takes it."""
    profile: str = "alexnet-leaderboard"
    """Training profile of all attempts."""
    overrides: Overrides = field(default_factory=dict)
    """Further overrides, for all attempts."""
    seeds: Repetitions = 1
    """Times that each attempt is made."""


BOARDS = "boards"


def board_of(folder: Path, table: Mapping[str, Any]) -> Path:
    """Where the board of a trial lies: STUDY/boards, beside all the trials that share it.

    Args:
        folder: of the trial.
        table: its settings.
    """
    return folder.parents[1] / BOARDS / table["board"]


def boards(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each board's name, and what tells it apart."""
    for seed in range(settings.seeds):
        for rule, attempts in (("ratchet", settings.attempts), ("population", settings.population)):
            for attempt in attempts:
                yield f"{attempt}-{rule}-seed{seed}", {"attempt": attempt, "rule": rule, "seed": seed}


def trials(settings: Settings) -> list[Trial]:
    """Board by board, its processes one after another, so that those that run at the same time share one."""
    listed = []
    for board, labels in boards(settings):
        for process in range(settings.processes):
            listed.append(_trial(settings, board, labels, f"process{process}", call="worker:work"))
    for board, labels in boards(settings):
        before = tuple(f"{board}-process{process}" for process in range(settings.processes))
        listed.append(_trial(settings, board, labels, "top", call="worker:top", after=before))
    return listed


def _trial(
    settings: Settings, board: str, labels: dict[str, Any], part: str, *, call: str, after: tuple[str, ...] = ()
) -> Trial:
    kept = ("slots", "total_lifetime_s", "eon_lifetime_s", "epochs")
    table = {name: getattr(settings, name) for name in kept}
    table |= {"profiles": [asdict(profile) for profile in settings.profiles], "board": board, **labels}
    return Trial(
        name=f"{board}-{part}",
        call=f"distdl.studies.leaderboard.{call}",
        settings={**table, "recipe": asdict(recipe(settings, labels["attempt"], labels["seed"]))},
        after=after,
        labels={**labels, "part": part},
    )


def recipe(settings: Settings, attempt: str, seed: int) -> Recipe:
    """The training of an attempt."""
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
