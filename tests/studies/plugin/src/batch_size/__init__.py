"""The study `batch-size`: accuracy with different batch sizes. A complete study in its own package."""

from collections.abc import Mapping
from dataclasses import dataclass

from distdl.core.profiles import Recipe
from distdl.core.statistics import spread
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.base import Outcome, Study, Trial


@dataclass(frozen=True, kw_only=True)
class BatchSizeSettings:
    """Batch sizes, repetitions and the training."""

    profile: str = "digits"
    """The training profile that every trial starts from."""
    batches: tuple[int, ...] = (8, 32, 128)
    """Global batch sizes."""
    seeds: int = 3
    """Number of repetitions."""
    epochs: int = 10
    """Epochs of each training."""


QUICK = {"batches": (16, 128), "seeds": 2, "epochs": 1}


def trials(settings: BatchSizeSettings) -> list[Trial]:
    """A training for each batch size and seed."""
    return [
        Trial(
            name=f"batch{batch}-seed{seed}",
            recipe=Recipe(
                profile=settings.profile,
                overrides={"data.batch_size": batch, "epochs": settings.epochs, "seed": seed},
            ),
            labels={"batch": batch, "seed": seed},
        )
        for batch in settings.batches
        for seed in range(settings.seeds)
    ]


def findings(settings: BatchSizeSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Accuracy by batch size, and whether the smallest batch size is best."""
    reached: dict[int, list[float]] = {}
    for outcome in outcomes.values():
        if outcome.completed:
            reached.setdefault(outcome.trial.labels["batch"], []).append(outcome.result["test"]["accuracy"])
    by_batch = {batch: spread(values) for batch, values in sorted(reached.items())}
    rows = tuple((batch, value.mean, value.low, value.high, value.n) for batch, value in by_batch.items())
    data = dict(zip(("batch", "accuracy", "low", "high"), zip(*(row[:4] for row in rows), strict=True), strict=True))
    small, large = by_batch[min(by_batch)], by_batch[max(by_batch)]
    text = f"After {settings.epochs} epochs, batch {min(by_batch)} reaches {small}, batch {max(by_batch)} {large}."
    return [
        Section(
            title="Accuracy by batch size",
            parts=(
                Finding(text=text, n=small.n, holds=small.beats(large) if small.n > 1 else None),
                Table(
                    name="batches", title="Test accuracy", columns=("batch", "accuracy", "low", "high", "n"), rows=rows
                ),
                Figure(
                    name="batches",
                    title="Test accuracy by batch size",
                    x=Axis(title="batch", scale="log"),
                    y=Axis(title="accuracy"),
                    layers=(PlotLayer(mark="points", data=data, x="batch", y="accuracy", low="low", high="high"),),
                ),
            ),
        )
    ]


STUDY = Study(
    name="batch-size",
    summary="effect of the batch size on accuracy at a fixed number of images",
    settings=BatchSizeSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)
