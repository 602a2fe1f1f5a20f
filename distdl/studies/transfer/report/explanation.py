"""Explanation of the ranking: first accuracies, trained parameters, distances from the initial weights, and cost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distdl.core.statistics import spread
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.report.sentences import exceeds
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import percent
from distdl.studies.transfer import published
from distdl.studies.transfer.report.approaches import selected_results
from distdl.studies.transfer.results import RateResult
from distdl.studies.transfer.trials import TITLES

SMALL_LOSS = 0.1
"""A mean loss at which the correct class has a probability of 90 %."""


def section(results: Sequence[RateResult], outcomes: Mapping[str, Outcome]) -> Section | None:
    """Return the measurements that explain the ranking of the approaches; None with fewer than two approaches."""
    selected = selected_results(results)
    if len(selected) < 2:
        return None
    moved, costs = _result(outcomes.get("moved")), _result(outcomes.get("extractor"))
    return Section(
        title="Explanation",
        parts=(
            *_first_epoch(selected),
            *_lowest_loss(results, costs, outcomes),
            *_cost(selected, costs),
            _curves(selected),
            _table(selected, costs, moved),
            *_distances(moved),
        ),
    )


def _result(outcome: Outcome | None) -> Mapping[str, Any]:
    return outcome.result if outcome and outcome.completed else {}


def _first_epoch(selected: Sequence[RateResult]) -> Iterator[Finding]:
    by_kind = {result.kind: result for result in selected}
    if {"finetune", "scratch"} <= by_kind.keys():
        tuned, scratch = (spread([run.curve[0][1] for run in by_kind[kind].runs]) for kind in ("finetune", "scratch"))
        last = by_kind["scratch"].validation
        yield Finding(
            text=f"At the first evaluation the pretrained network has an accuracy of {percent(tuned)}, the network "
            f"trained from scratch {percent(scratch)} (at the end {percent(last)}): it has to learn from few images "
            "what the pretrained network has learned from many others. AlexNet experiment: "
            f"{published.FIRST_EPOCH:.0f} % after one epoch of fine-tuning.",
            n=tuned.n,
            holds=exceeds(tuned, scratch),
        )


def _lowest_loss(
    results: Sequence[RateResult], costs: Mapping[str, Any], outcomes: Mapping[str, Outcome]
) -> Iterator[Finding]:
    """Lowest training loss over all rates, with frozen and with trained convolutions."""
    target = outcomes.get("target")
    lowest: dict[str, float] = {}
    for kind in ("extractor", "finetune"):
        losses = [loss for result in results if result.kind == kind and (loss := _loss(result)) is not None]
        lowest |= {kind: min(losses)} if losses else {}
    if len(lowest) == 2 and target and target.completed:
        counts = target.result["images"]["train"]
        yield Finding(
            text=f"With {sum(counts) / len(counts):.0f} images per class, training only the last layer "
            f"({costs['parameters']:,} parameters) reaches a training loss of {lowest['extractor']:.2g}, fine-tuning "
            f"{lowest['finetune']:.2g}."
            + (" The pretrained features already separate these images." if lowest["extractor"] < SMALL_LOSS else ""),
            n=min(len(result.runs) for result in results if result.kind in lowest and result.runs),
        )


def _loss(result: RateResult) -> float | None:
    """Final training loss, mean over the seeds for which it is finite."""
    losses = [run.loss for run in result.runs if run.loss is not None and math.isfinite(run.loss)]
    return _mean(losses)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _train_s(result: RateResult) -> float | None:
    return _mean([run.train_s for run in result.runs if run.train_s is not None])


def _cost(selected: Sequence[RateResult], costs: Mapping[str, Any]) -> Iterator[Finding]:
    tuned = next((result for result in selected if result.kind == "finetune"), None)
    if tuned and costs and (train_s := _train_s(tuned)) is not None:
        yield Finding(
            text=f"Computing the features of {costs['images']:,} images took {costs['features_s']:.1f} s, training "
            f"{len(costs['heads'])} last layers on them {costs['heads_s']:.1f} s; one fine-tuning run takes "
            f"{train_s:.1f} s.",
            n=1,
        )


def _table(selected: Sequence[RateResult], costs: Mapping[str, Any], moved: Mapping[str, Any]) -> Table:
    rows = []
    all_parameters = max((run["parameters"] for run in moved.values()), default=None)
    for result in selected:
        is_extractor = result.kind == "extractor"
        run = moved.get(f"{result.kind}-lr{result.lr:g}-seed0", {})
        distances = run.get("distance", {})
        features = [distance for block, distance in distances.items() if block != "classifier"]
        rows.append(
            (
                TITLES[result.kind],
                costs.get("parameters") if is_extractor else run.get("parameters", all_parameters),
                _train_s(result),
                spread([each.curve[0][1] for each in result.runs]).mean,
                _loss(result),
                result.test.mean,
                0.0 if is_extractor and not features else _mean(features),
                distances.get("classifier"),
            )
        )
    return Table(
        name="transfer-explanation",
        title="Trained parameters, training time and distance from the initial weights",
        columns=(
            "approach",
            "trained parameters",
            "training (s)",
            "first evaluation (%)",
            "final training loss",
            "test (%)",
            "distance of the features",
            "distance of the classifier",
        ),
        rows=tuple(rows),
        note="distance: |after - before| / |before| over the weights of a block, mean over the blocks of the features, "
        "for seed 0; only if the selected learning rate is the one at which frozen parts are compared.",
    )


def _distances(moved: Mapping[str, Any]) -> Iterator[Figure]:
    rows = [
        (number, TITLES[name.split("-lr")[0]], distance)
        for name, run in moved.items()
        for number, distance in enumerate(run["distance"].values(), start=1)
    ]
    if rows:
        block, approach, distance = zip(*rows, strict=True)
        data = {"block": block, "approach": approach, "distance": distance}
        yield Figure(
            name="transfer-moved",
            title="Relative distance of each block from the pretrained weights",
            x=Axis(title="block, the classifier last"),
            y=Axis(title="|after - before| / |before|"),
            layers=(
                PlotLayer(mark="line", data=data, x="block", y="distance", series="approach"),
                PlotLayer(mark="points", data=data, x="block", y="distance", series="approach"),
            ),
        )


def _curves(selected: Sequence[RateResult]) -> Figure:
    rows = []
    for result in selected:
        for number, (epoch, _) in enumerate(result.runs[0].curve):
            value = spread([run.curve[number][1] for run in result.runs if number < len(run.curve)])
            rows.append((epoch, TITLES[result.kind], value.mean, *value.ends))
    epoch, approach, mean, low, high = zip(*rows, strict=True)
    data = {"epoch": epoch, "approach": approach, "accuracy": mean, "low": low, "high": high}
    return Figure(
        name="transfer-curves",
        title="Validation accuracy during training",
        x=Axis(title="epoch"),
        y=Axis(title="validation accuracy (%)"),
        layers=(
            PlotLayer(mark="line", data=data, x="epoch", y="accuracy", series="approach"),
            PlotLayer(mark="points", data=data, x="epoch", y="accuracy", series="approach"),
        ),
    )
