"""Settings and trials of study `scaling`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from distdl.core import hosts
from distdl.core.config import Count, Positive, StrategyName, Text
from distdl.core.hosts import HostList
from distdl.core.profiles import Recipe
from distdl.studies.base import Repetitions, Trial

SINGLE = "single"
"""Strategy of the single worker with which every other strategy is compared."""


def _trains_on_all(strategy: str) -> str:
    if strategy in ("auto", SINGLE, "ps"):
        text = f"{strategy!r} does not train on each of several workers"
        raise PydanticCustomError("component", "{reason}", {"reason": text})
    return strategy


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """Numbers of workers, strategies, repetitions, and the training."""

    profile: Text = "mnist-cnn"
    """The training profile."""
    workers: tuple[Positive, ...] = (1, 2, 4)
    """Numbers of workers; one worker is always measured, for comparison."""
    strategies: tuple[Annotated[StrategyName, AfterValidator(_trains_on_all)], ...] = ("ddp", "horovod")
    """Strategies that synchronize the gradients of several workers."""
    mode: Literal["weak", "strong"] = "weak"
    """weak: `batch` is per worker; strong: it is the global batch size, divided among the workers and rounded up."""
    batch: Positive = 16
    """Images per step."""
    epochs: Positive = 40
    """Epochs of each training. The first one includes warm-up and is reported separately."""
    repeats: Repetitions = 5
    """Number of seeds. All points are measured once before any is repeated, so that drift affects all equally."""
    images: Count = 0
    """Number of training images; 0 takes all."""
    cores: Positive = 1
    """Cores per worker on a CPU. Workers that have to share cores are marked."""
    hosts: HostList = ""
    """Hosts for the points of several workers: names, separated by commas, or a number of hosts to emulate."""

    def __post_init__(self) -> None:
        if not self.hosts:
            return
        count = hosts.count(self.hosts)
        if not count:
            raise ValueError(f'hosts: "{self.hosts}" names no host')
        if odd := [workers for workers in self.workers if workers > 1 and workers % count]:
            raise ValueError(f"{odd[0]} workers cannot be shared equally by {count} hosts")


def trials(settings: ScalingSettings) -> list[Trial]:
    """A training for each number of workers, strategy and seed; interleaved, each round starting one point later."""
    worker_counts = sorted({workers for workers in settings.workers if workers > 1})
    points = [(1, SINGLE), *((workers, strategy) for workers in worker_counts for strategy in settings.strategies)]
    listed = []
    for repeat in range(settings.repeats):
        first = repeat % len(points)
        listed += [_trial(settings, *point, repeat) for point in (*points[first:], *points[:first])]
    return listed


def _trial(settings: ScalingSettings, workers: int, strategy: str, repeat: int) -> Trial:
    batch = settings.batch if settings.mode == "weak" else -(-settings.batch // workers)
    overrides: dict[str, Any] = {
        "strategy": strategy,
        "epochs": settings.epochs,
        "seed": repeat,
        "data.batch_size": batch,
        "checkpoint.every_epochs": 0,
        "progress": "plain",
    }
    if settings.images:
        overrides["data.limit"] = settings.images
    if hosts.is_number(settings.hosts) and workers > 1:
        overrides["compute.threads"] = (
            settings.cores
        )  # otherwise each emulated host would pin its ranks to the first cores
    return Trial(
        name=f"{strategy.replace(':', '.')}-{workers}-seed{repeat}",
        recipe=Recipe(profile=settings.profile, overrides=overrides),
        ranks=workers,
        hosts=settings.hosts if workers > 1 else "",
        cores=workers * settings.cores,
        labels={"workers": workers, "strategy": strategy, "seed": repeat},
    )
