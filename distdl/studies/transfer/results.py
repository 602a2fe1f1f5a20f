"""Results of study `transfer` by attempt, learning rate and seed, and the best learning rate of each attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from distdl.core.files import read_rows
from distdl.core.run_files import METRICS
from distdl.core.statistics import Spread, spread
from distdl.studies.base import Outcome
from distdl.studies.transfer.settings import TransferSettings
from distdl.studies.transfer.trials import attempts


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """Result of one training. Accuracies are in per cent."""

    kind: str
    lr: float
    seed: int
    validation: float
    """Best of the run; the network of that epoch was tested once."""
    test: float
    epoch: float
    """Number of epochs after which validation accuracy was best."""
    curve: tuple[tuple[float, float], ...]
    """(epochs trained, validation accuracy)."""
    loss: float | None
    """Final training loss; None if it is not finite."""
    train_s: float | None
    """Seconds of training; None for a last layer of a grid that was trained at once."""


@dataclass(frozen=True, kw_only=True)
class RateResult:
    """Results of an attempt at one learning rate, over its seeds."""

    kind: str
    lr: float
    runs: tuple[SeedResult, ...]
    diverged: int = 0
    """Number of trainings that failed, because their loss was not finite."""

    @property
    def validation(self) -> Spread:
        return spread([run.validation for run in self.runs])

    @property
    def test(self) -> Spread:
        return spread([run.test for run in self.runs])

    @property
    def tests(self) -> dict[int, float]:
        """Test accuracy by seed."""
        return {run.seed: run.test for run in self.runs}


def by_rate(settings: TransferSettings, outcomes: Mapping[str, Outcome]) -> list[RateResult]:
    """Results of all attempts with at least one ended training, in the order of the settings, and the extractor's."""
    results = []
    for attempt in attempts(settings):
        of_seeds = [outcomes.get(attempt.name(seed)) for seed in range(settings.seeds)]
        runs = [_run(attempt.kind, attempt.lr, seed, each) for seed, each in enumerate(of_seeds) if _completed(each)]
        diverged = sum(each is not None and each.status == "failed" for each in of_seeds)
        if runs or diverged:
            results.append(RateResult(kind=attempt.kind, lr=attempt.lr, runs=tuple(runs), diverged=diverged))
    if _completed(extractor := outcomes.get("extractor")):
        results += _heads(extractor)
    return results


def best(results: Sequence[RateResult], kind: str) -> RateResult | None:
    """The result with the best validation accuracy, among learning rates at which no training diverged if any."""
    of_kind = [result for result in results if result.kind == kind and result.runs]
    complete = [result for result in of_kind if not result.diverged] or of_kind
    return max(complete, key=lambda result: result.validation.mean, default=None)


def _completed(outcome: Outcome | None) -> TypeGuard[Outcome]:
    return outcome is not None and outcome.completed


def _run(kind: str, lr: float, seed: int, outcome: Outcome) -> SeedResult:
    rows = list(read_rows(outcome.folder / METRICS))
    evaluated = [row for row in rows if row["kind"] == "validation"] or [row for row in rows if row["kind"] == "test"]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    top = max(evaluated, key=lambda row: row["accuracy"])
    return SeedResult(
        kind=kind,
        lr=lr,
        seed=seed,
        validation=100 * top["accuracy"],
        test=100 * outcome.result["test"]["accuracy"],
        epoch=top["epoch"],
        curve=tuple((row["epoch"], 100 * row["accuracy"]) for row in evaluated),
        loss=losses[-1] if losses else None,
        train_s=outcome.result["train_s"],
    )


def _heads(outcome: Outcome) -> list[RateResult]:
    runs_by_rate: dict[float, list[SeedResult]] = {}
    for head in outcome.result["heads"]:
        run = SeedResult(
            kind="extractor",
            lr=head["lr"],
            seed=head["seed"],
            validation=100 * head["validation"],
            test=100 * head["test"],
            epoch=head["best_epoch"],
            curve=tuple((number, 100 * accuracy) for number, accuracy in head["curve"]),
            loss=head["loss"],
            train_s=None,
        )
        runs_by_rate.setdefault(run.lr, []).append(run)
    return [RateResult(kind="extractor", lr=lr, runs=tuple(runs)) for lr, runs in runs_by_rate.items()]
