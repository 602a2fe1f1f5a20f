"""Results of study `decathlon`: accuracy and score by domain and approach, the total score, and missing domains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distdl.core.files import read_rows
from distdl.core.run_files import METRICS
from distdl.core.statistics import Spread, spread
from distdl.data.sets.decathlon import DOMAINS, Domain
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.report.sentences import NOT_SIGNIFICANT
from distdl.studies.base import Outcome
from distdl.studies.decathlon import score
from distdl.studies.runner.accuracy import cells, percent

BASELINE = 250.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """One approach on one domain, at the learning rate selected by validation: test accuracies in per cent, by seed."""

    domain: Domain
    approach: str
    lr: float
    tests: tuple[float, ...]

    @property
    def accuracy(self) -> Spread:
        return spread(list(self.tests))

    @property
    def errors(self) -> list[tuple[float, float]]:
        """(error rate, error rate of the baseline) by seed."""
        return [(1 - test / 100, 1 - self.domain.baseline / 100) for test in self.tests]

    @property
    def points(self) -> list[float]:
        """Score by seed."""
        return [score.domain(*errors) for errors in self.errors]


def findings(
    domains: Sequence[Domain], rates: Sequence[float], seeds: int, outcomes: Mapping[str, Outcome]
) -> list[Section]:
    """Return one section, or none before the first result.

    Args:
        rates: learning rates of fine-tuning.
    """
    results = [result for domain in domains for result in _results(domain, rates, seeds, outcomes)]
    extracted = {domain: _extractor(domain, outcomes) for domain in domains}
    missing = [domain for domain, result in extracted.items() if "missing" in result]
    if not results and not missing:
        return []
    approaches = sorted({result.approach for result in results})
    return [
        Section(
            title="Visual Decathlon",
            text="A domain scores 1,000 points at an error rate of 0, 250 points at the error rate of the challenge's "
            "fully fine-tuned baseline, and 0 points at twice that error rate or more. The images are 72 x 72 pixels. "
            "If only part of a domain is available, its score can only compare approaches with each other.",
            parts=(
                *(_total(approach, [each for each in results if each.approach == approach]) for approach in approaches),
                *_compared(results),
                *([_absent(missing)] if missing else []),
                *([_bars(results), _table(results, extracted)] if results else []),
            ),
        )
    ]


def _extractor(domain: Domain, outcomes: Mapping[str, Outcome]) -> Mapping[str, Any]:
    outcome = outcomes.get(f"extractor-{domain.folder}")
    return outcome.result if outcome and outcome.completed else {}


def _results(domain: Domain, rates: Sequence[float], seeds: int, outcomes: Mapping[str, Outcome]) -> Iterator[Result]:
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
            yield Result(domain=domain, approach=approach, lr=lr, tests=tests)


def _validation(outcome: Outcome) -> float:
    """Best validation accuracy of a training."""
    return max(
        (row["accuracy"] for row in read_rows(outcome.folder / METRICS) if row["kind"] == "validation"), default=0
    )


def _total(approach: str, results: Sequence[Result]) -> Finding:
    value = spread([score.total(errors) for errors in zip(*(result.errors for result in results), strict=False)])
    interval = f" ({value.low:,.0f} to {value.high:,.0f})" if value.n > 1 else ""
    return Finding(
        text=f"{approach.capitalize()}: {value.mean:,.0f} points{interval} on {len(results)} of the ten domains; the "
        f"baseline scores {BASELINE * len(results):,.0f} on the same number of domains.",
        n=value.n,
    )


def _compared(results: Sequence[Result]) -> Iterator[Finding]:
    """Compare fine-tuning with training the last layer only, for domains that have both."""
    by_approach = {(result.domain, result.approach): result for result in results}
    for domain in DOMAINS:
        tuned, frozen = (by_approach.get((domain, approach)) for approach in ("fine-tuned", "frozen features"))
        if tuned and frozen:
            high, low = tuned.accuracy, frozen.accuracy
            is_significant = high.minus(low).excludes_zero
            yield Finding(
                text=f"{domain.title}: fine-tuning reaches {percent(high)}, training only the last layer {percent(low)}"
                + ("." if is_significant else f", a difference {NOT_SIGNIFICANT}."),
                n=min(high.n, low.n),
                holds=high.beats(low) if is_significant else None,
            )


def _absent(missing: Sequence[Domain]) -> Finding:
    names = ", ".join(domain.title for domain in missing)
    return Finding(
        text=f"Missing, and therefore without a score: {names}. Unpack the challenge's archives (DOMAIN/train/CLASS/"
        "*.jpg, and val) under decathlon-1.0 in the data root.",
        n=0,
    )


def _bars(results: Sequence[Result]) -> Figure:
    scores = [spread(result.points) for result in results]
    data = {
        "domain": [result.domain.title for result in results],
        "points": [value.mean for value in scores],
        "low": [value.ends[0] for value in scores],
        "high": [value.ends[1] for value in scores],
        "approach": [result.approach for result in results],
    }
    return Figure(
        name="decathlon-points",
        title="Score by domain (line: baseline of the challenge)",
        x=Axis(title="domain", scale="category"),
        y=Axis(title="points"),
        layers=(
            PlotLayer(mark="bars", data=data, x="domain", y="points", low="low", high="high", series="approach"),
            PlotLayer(mark="rule", data={"points": [BASELINE]}, y="points"),
        ),
    )


def _table(results: Sequence[Result], extracted: Mapping[Domain, Mapping[str, Any]]) -> Table:
    return Table(
        name="decathlon",
        title="Results by domain, with the challenge's baseline",
        columns=(
            "domain",
            "approach",
            "classes available",
            "classes in total",
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
                result.domain.title,
                result.approach,
                extracted[result.domain].get("classes"),
                result.domain.classes,
                result.lr,
                *cells(result.accuracy),
                round(spread(result.points).mean, 1),
                result.domain.baseline,
            )
            for result in results
        ),
        note="low and high: 95 % confidence interval over the seeds. points: mean over the seeds.",
    )
