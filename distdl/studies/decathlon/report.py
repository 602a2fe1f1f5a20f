"""Results of study `decathlon`: accuracy and score by domain and approach, the total, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from distdl.core.files import read_rows
from distdl.core.rundir import METRICS
from distdl.core.statistics import Spread, spread
from distdl.data.sets.decathlon import DOMAINS, Domain
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.decathlon import score
from distdl.studies.runner.accuracy import cells, percent

BASELINE = 250.0


@dataclass(frozen=True, kw_only=True)
class Done:
    """An approach to a domain at the rate that the validation picked: accuracies on the test, in per cent, by seed."""

    domain: Domain
    approach: str
    lr: float
    tests: tuple[float, ...]

    @property
    def accuracy(self) -> Spread:
        return spread(list(self.tests))

    @property
    def errors(self) -> list[tuple[float, float]]:
        """By seed: share of wrong answers, and the baseline's."""
        return [(1 - test / 100, 1 - self.domain.baseline / 100) for test in self.tests]

    @property
    def points(self) -> list[float]:
        """By seed."""
        return [score.domain(*errors) for errors in self.errors]


def findings(
    domains: Sequence[Domain], rates: Sequence[float], seeds: int, outcomes: Mapping[str, Outcome]
) -> list[Section]:
    """One section; empty until a domain is done.

    Args:
        rates: of fine-tuning.
    """
    found = [done for domain in domains for done in _done(domain, rates, seeds, outcomes)]
    results = {domain: _extractor(domain, outcomes) for domain in domains}
    missing = [domain for domain, result in results.items() if "missing" in result]
    if not found and not missing:
        return []
    approaches = sorted({done.approach for done in found})
    return [
        Section(
            title="Visual Decathlon",
            text="A domain has 1,000 points without errors, 250 with the errors of the challenge's fully fine-tuned "
            "baseline, and none from twice its errors on. The images are 72 x 72 pixels. Where a domain is here in "
            "part only, its points are for comparing approaches, not for the challenge.",
            parts=(
                *(_total(approach, [done for done in found if done.approach == approach]) for approach in approaches),
                *_against(found),
                *([_absent(missing)] if missing else []),
                *([_bars(found), _table(found, results)] if found else []),
            ),
        )
    ]


def _extractor(domain: Domain, outcomes: Mapping[str, Outcome]) -> Mapping[str, object]:
    outcome = outcomes.get(f"extractor-{domain.folder}")
    return outcome.result if outcome and outcome.completed else {}


def _done(domain: Domain, rates: Sequence[float], seeds: int, outcomes: Mapping[str, Outcome]) -> Iterator[Done]:
    frozen: dict[float, list[tuple[float, float]]] = {}
    for head in _extractor(domain, outcomes).get("heads", ()):
        frozen.setdefault(head["lr"], []).append((head["validation"], head["test"]))
    tuned: dict[float, list[tuple[float, float]]] = {}
    for lr in rates:
        for seed in range(seeds):
            outcome = outcomes.get(f"finetune-{domain.folder}-lr{lr:g}-seed{seed}")
            if outcome and outcome.completed and "missing" not in outcome.result:
                tuned.setdefault(lr, []).append((_validation(outcome), outcome.result["test"]["accuracy"]))
    for approach, by_rate in (("frozen features", frozen), ("fine-tuned", tuned)):
        if by_rate:
            lr = max(by_rate, key=lambda rate: sum(value for value, _ in by_rate[rate]) / len(by_rate[rate]))
            tests = tuple(100 * test for _, test in by_rate[lr])
            yield Done(domain=domain, approach=approach, lr=lr, tests=tests)


def _validation(outcome: Outcome) -> float:
    """The best accuracy on the validation of a training."""
    return max(
        (row["accuracy"] for row in read_rows(outcome.folder / METRICS) if row["kind"] == "validation"), default=0
    )


def _total(approach: str, own: Sequence[Done]) -> Finding:
    by_seed = [score.total(errors) for errors in zip(*(done.errors for done in own), strict=False)]
    value = spread(by_seed)
    interval = f" ({value.low:,.0f} to {value.high:,.0f})" if value.n > 1 else ""
    return Finding(
        text=f"{approach.capitalize()}: {value.mean:,.0f} points{interval} over {len(own)} of the ten domains; the "
        f"baseline has {BASELINE * len(own):,.0f} over as many.",
        n=value.n,
    )


def _against(found: Sequence[Done]) -> Iterator[Finding]:
    """Document 001: fine-tuning against the last layer alone, where both were tried."""
    by_place = {(done.domain, done.approach): done for done in found}
    for domain in DOMAINS:
        tuned, frozen = (by_place.get((domain, approach)) for approach in ("fine-tuned", "frozen features"))
        if tuned and frozen:
            ours, other = tuned.accuracy, frozen.accuracy
            clear = ours.beats(other) or other.beats(ours)
            yield Finding(
                text=f"{domain.title}: fine-tuned {percent(ours)}, last layer alone {percent(other)}"
                + ("." if clear else ": they cannot be told apart."),
                n=min(ours.n, other.n),
                holds=ours.beats(other) if clear else None,
            )


def _absent(missing: Sequence[Domain]) -> Finding:
    names = ", ".join(domain.title for domain in missing)
    return Finding(
        text=f"Missing here and without points: {names}. The challenge's archives bring them: DOMAIN/train/CLASS/*.jpg "
        "and val under decathlon-1.0 in the data root.",
        n=0,
    )


def _bars(found: Sequence[Done]) -> Figure:
    scores = [spread(done.points) for done in found]
    data = {
        "domain": [done.domain.title for done in found],
        "points": [value.mean for value in scores],
        "low": [value.ends[0] for value in scores],
        "high": [value.ends[1] for value in scores],
        "approach": [done.approach for done in found],
    }
    return Figure(
        name="decathlon-points",
        title="Points by domain; the line is the challenge's baseline",
        x=Axis(title="domain", scale="category"),
        y=Axis(title="points"),
        layers=(
            Layer(mark="bars", data=data, x="domain", y="points", low="low", high="high", series="approach"),
            Layer(mark="rule", data={"points": [BASELINE]}, y="points"),
        ),
    )


def _table(found: Sequence[Done], results: Mapping[Domain, Mapping[str, object]]) -> Table:
    return Table(
        name="decathlon",
        title="Domains, beside the challenge's baseline",
        columns=(
            "domain",
            "approach",
            "classes here",
            "of",
            "learning rate",
            "accuracy (%)",
            "low",
            "high",
            "n",
            "points",
            "baseline (%)",
        ),
        rows=tuple(
            (
                done.domain.title,
                done.approach,
                results[done.domain].get("classes"),
                done.domain.classes,
                done.lr,
                *cells(done.accuracy),
                round(spread(done.points).mean, 1),
                done.domain.baseline,
            )
            for done in found
        ),
        note="low and high: 95 % interval over the seeds. points: mean over the seeds.",
    )
