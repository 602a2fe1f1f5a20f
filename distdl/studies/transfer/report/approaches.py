"""Comparison of the approaches: from scratch, frozen features, fine-tuned, parts frozen."""

from collections.abc import Iterator, Mapping, Sequence

from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section
from distdl.report.sentences import compare, exceeds
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import percent
from distdl.studies.transfer import published
from distdl.studies.transfer.report.rates import table
from distdl.studies.transfer.results import RateResult, best
from distdl.studies.transfer.trials import TITLES

APPROACHES = ("scratch", "extractor", "finetune", "parts", "freeze-features", "freeze-classifier")


def section(results: Sequence[RateResult], outcomes: Mapping[str, Outcome]) -> Section | None:
    """Compare the approaches, each at its selected learning rate; None while there are no results."""
    selected = selected_results(results)
    if not selected:
        return None
    by_kind = {result.kind: result for result in selected}
    return Section(
        title="Comparison of the approaches",
        text="Each approach has the learning rate that was selected by validation accuracy.",
        parts=(
            *_order(by_kind),
            *_frozen_classifier(by_kind, outcomes),
            *_winner(selected),
            _bars(selected),
            table(
                selected,
                "transfer-approaches",
                "Approaches at their selected learning rate, measured and published",
                best_printed=True,
            ),
        ),
    )


def selected_results(results: Sequence[RateResult]) -> list[RateResult]:
    """The result of each approach at its selected learning rate, as far as there are results."""
    return [result for kind in APPROACHES if (result := best(results, kind))]


def _order(by_kind: Mapping[str, RateResult]) -> Iterator[Finding]:
    """Compare with the leaderboard experiment: fine-tuning beats frozen features, which beat training from scratch."""
    for high, low in (("finetune", "extractor"), ("extractor", "scratch"), ("finetune", "scratch")):
        if high in by_kind and low in by_kind:
            better, worse = by_kind[high].test, by_kind[low].test
            printed = published.THREE_ATTEMPTS
            yield Finding(
                text=f"{TITLES[high].capitalize()}: test accuracy {percent(better)}; {TITLES[low]}: {percent(worse)}. "
                f"Difference: {compare(better, worse)}. Leaderboard experiment: {printed[high]:.2f} % and "
                f"{printed[low]:.2f} %.",
                n=better.n,
                holds=exceeds(better, worse),
            )


def _frozen_classifier(by_kind: Mapping[str, RateResult], outcomes: Mapping[str, Outcome]) -> Iterator[Finding]:
    """Compare with the AlexNet experiment: of the approaches with pretrained weights, a frozen classifier is worst."""
    frozen = by_kind.get("freeze-classifier")
    others = [by_kind[kind] for kind in ("finetune", "parts", "extractor", "freeze-features") if kind in by_kind]
    if not frozen or not others:
        return
    lowest = min(others, key=lambda result: result.test.mean)
    yield Finding(
        text=f"With a frozen classifier and trained convolutions the test accuracy is {percent(frozen.test)}; the "
        f"lowest of the other approaches with pretrained weights is {TITLES[lowest.kind]} with "
        f"{percent(lowest.test)}: {compare(lowest.test, frozen.test)}. AlexNet experiment: 48.9 %, and at least 83.4 % "
        "for all others." + _frozen_share(outcomes),
        n=frozen.test.n,
        holds=exceeds(lowest.test, frozen.test),
    )


def _frozen_share(outcomes: Mapping[str, Outcome]) -> str:
    """Share of the parameters that a frozen classifier freezes, here and in AlexNet."""
    measured = outcomes.get("moved")
    runs = measured.result if measured and measured.completed else {}
    trained = {name.split("-lr")[0]: run["parameters"] for name, run in runs.items()}
    if not {"freeze-classifier", "finetune"} <= trained.keys():
        return ""
    share = 1 - trained["freeze-classifier"] / trained["finetune"]
    return (
        f" The classifier has {100 * share:.2g} % of this network's parameters and {published.DENSE_SHARE:.0f} % of "
        "AlexNet's."
    )


def _winner(selected: Sequence[RateResult]) -> Iterator[Finding]:
    if len(selected) < 2:
        return
    first, second, *_ = sorted(selected, key=lambda result: -result.validation.mean)
    is_significant = first.validation.beats(second.validation)
    yield Finding(
        text=f"Best on the validation split is {TITLES[first.kind]} at {first.lr:g} with {percent(first.validation)}, "
        f"followed by {TITLES[second.kind]} with {percent(second.validation)}; the difference is "
        f"{'significant' if is_significant else 'not significant'}. Test accuracies: {percent(first.test)} and "
        f"{percent(second.test)}.",
        n=first.validation.n,
    )


def _bars(selected: Sequence[RateResult]) -> Figure:
    data = {
        "approach": [TITLES[result.kind] for result in selected],
        "accuracy": [result.test.mean for result in selected],
        "low": [result.test.ends[0] for result in selected],
        "high": [result.test.ends[1] for result in selected],
    }
    return Figure(
        name="transfer-approaches-bars",
        title="Test accuracy of each approach at its selected learning rate",
        x=Axis(title="approach", scale="category"),
        y=Axis(title="test accuracy (%)"),
        layers=(PlotLayer(mark="bars", data=data, x="approach", y="accuracy", low="low", high="high"),),
    )
