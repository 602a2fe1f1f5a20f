"""What the trials of study `transfer` came to: one value for each attempt, rate and seed, and which rate is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distdl.core.files import read_rows
from distdl.core.rundir import METRICS
from distdl.core.statistics import Spread, spread
from distdl.studies.base import Outcome
from distdl.studies.transfer.settings import Settings
from distdl.studies.transfer.trials import attempts


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training. Accuracies are in per cent."""

    kind: str
    lr: float
    seed: int
    validation: float
    """The best of the run: the network of that epoch was tested, once."""
    test: float
    epoch: float
    """Epochs trained when the validation was best."""
    curve: tuple[tuple[float, float], ...]
    """(epochs trained, accuracy on the validation)."""
    loss: float | None
    """Training loss at the end; None where it is no number."""
    train_s: float | None
    """Seconds of training; None for a member of a grid that was trained all at once."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """An attempt at one rate, over its seeds."""

    kind: str
    lr: float
    runs: tuple[Run, ...]
    lost: int = 0
    """Trainings that ended without a result: their loss was no number any more."""

    @property
    def validation(self) -> Spread:
        return spread([run.validation for run in self.runs])

    @property
    def test(self) -> Spread:
        return spread([run.test for run in self.runs])


def groups(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Group]:
    """All attempts of which at least one training is over, in the order of the settings; the extractor's too."""
    found = []
    for attempt in attempts(settings):
        own = [outcomes.get(attempt.name(seed)) for seed in range(settings.seeds)]
        runs = [_run(attempt.kind, attempt.lr, seed, one) for seed, one in enumerate(own) if one and one.completed]
        lost = sum(one is not None and one.status == "failed" for one in own)
        if runs or lost:
            found.append(Group(kind=attempt.kind, lr=attempt.lr, runs=tuple(runs), lost=lost))
    extractor = outcomes.get("extractor")
    if extractor and extractor.completed:
        found += _heads(extractor)
    return found


def best(found: Sequence[Group], kind: str) -> Group | None:
    """Of an attempt's rates, the one that the validation picks; a rate at which a training was lost is not picked."""
    own = [group for group in found if group.kind == kind and group.runs]
    whole = [group for group in own if not group.lost] or own
    return max(whole, key=lambda group: group.validation.mean, default=None)


def _run(kind: str, lr: float, seed: int, outcome: Outcome) -> Run:
    rows = list(read_rows(outcome.folder / METRICS))
    judged = [row for row in rows if row["kind"] == "validation"] or [row for row in rows if row["kind"] == "test"]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    top = max(judged, key=lambda row: row["accuracy"])
    return Run(
        kind=kind,
        lr=lr,
        seed=seed,
        validation=100 * top["accuracy"],
        test=100 * outcome.result["test"]["accuracy"],
        epoch=top["epoch"],
        curve=tuple((row["epoch"], 100 * row["accuracy"]) for row in judged),
        loss=losses[-1] if losses else None,
        train_s=outcome.result["train_s"],
    )


def _heads(outcome: Outcome) -> list[Group]:
    by_rate: dict[float, list[Run]] = {}
    for head in outcome.result["heads"]:
        run = Run(
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
        by_rate.setdefault(run.lr, []).append(run)
    return [Group(kind="extractor", lr=lr, runs=tuple(runs)) for lr, runs in by_rate.items()]
