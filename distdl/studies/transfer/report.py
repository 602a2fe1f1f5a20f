"""Results of study `transfer` as sections: the target set, rates, approaches, augmentation, and what explains them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Picture, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import cells, ends, percent
from distdl.studies.transfer import published as document
from distdl.studies.transfer.results import Group, best, groups
from distdl.studies.transfer.settings import Settings
from distdl.studies.transfer.tasks import PICTURE
from distdl.studies.transfer.trials import TITLES

APPROACHES = ("scratch", "extractor", "finetune", "parts", "freeze-features", "freeze-classifier")
SPREAD_NOTE = "low and high: 95 % interval over the seeds."


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """What is known by the outcomes that there are."""
    found = groups(settings, outcomes)
    sections = [_target(outcomes.get("target")), _rates(found), _approaches(found, outcomes)]
    sections += [_augmentation(found, settings, outcomes.get("ten-crop")), _why(found, outcomes)]
    return [section for section in sections if section is not None]


def _target(outcome: Outcome | None) -> Section | None:
    if not outcome or not outcome.completed:
        return None
    result = outcome.result
    images: Mapping[str, list[int]] = result["images"]
    totals = [sum(counts) for counts in zip(*images.values(), strict=True)]
    listed = ", ".join(f"{sum(counts):,} {part}" for part, counts in images.items())
    picture = outcome.folder / PICTURE
    return Section(
        title="The target set",
        text=" ".join(result["notes"]),
        parts=(
            Finding(
                text=f"{result['name']} has {len(totals)} classes with {min(totals)} to {max(totals)} images each: "
                f"{sum(totals):,} in all ({listed}).",
                n=0,
            ),
            Figure(
                name="target-histogram",
                title="Images by class",
                x=Axis(title="class", scale="category"),
                y=Axis(title="images"),
                layers=(
                    Layer(mark="bars", data={"class": result["classes"], "images": totals}, x="class", y="images"),
                ),
            ),
            Table(
                name="target-classes",
                title="Images by class and part",
                columns=("class", *images),
                rows=tuple(zip(result["classes"], *images.values(), strict=True)),
            ),
            *(
                (Picture(name="target-samples", title="Samples of classes", png=picture.read_bytes()),)
                if picture.exists()
                else ()
            ),
        ),
    )


def _rates(found: Sequence[Group]) -> Section | None:
    tried = [group for group in found if sum(other.kind == group.kind for other in found) > 1]
    if not tried:
        return None
    return Section(
        title="Learning rates",
        text="For each attempt the validation picks the rate, and within a training the epoch. The network so picked "
        "is tested once; the accuracies on the test of the other rates are for the table alone.",
        parts=(*map(_pick, _by_kind(tried)), _over_rates(tried), _table(tried, "transfer-rates", "Every rate")),
    )


def _by_kind(found: Sequence[Group]) -> list[list[Group]]:
    return [own for kind in TITLES if (own := [group for group in found if group.kind == kind])]


def _pick(own: Sequence[Group]) -> Finding:
    kind = own[0].kind
    picked = best(own, kind)
    lost = [f"{group.lr:g}" for group in own if group.lost]
    diverged = f" At {', '.join(lost)} the loss grew beyond all numbers." if lost else ""
    if picked is None:
        return Finding(text=f"{TITLES[kind].capitalize()}: no rate was trained to the end.{diverged}", n=0)
    others = [group for group in own if group is not picked and group.runs]
    clear = all(picked.validation.beats(group.validation) for group in others)
    said = "" if clear else ", though others cannot be told from it"
    printed = document.best(kind)
    beside = f" Document 002 picks {printed.lr:g}." if printed else ""
    return Finding(
        text=f"{TITLES[kind].capitalize()}: of {len(own)} rates, {picked.lr:g} is best on the validation with "
        f"{percent(picked.validation)}{said}.{diverged}{beside}",
        n=picked.validation.n,
    )


def _over_rates(tried: Sequence[Group]) -> Figure:
    own = [group for group in tried if group.runs]
    data = {
        "learning rate": [group.lr for group in own],
        "accuracy": [group.validation.mean for group in own],
        "low": [ends(group.validation)[0] for group in own],
        "high": [ends(group.validation)[1] for group in own],
        "attempt": [TITLES[group.kind] for group in own],
    }
    shared = {"data": data, "x": "learning rate", "y": "accuracy", "series": "attempt"}
    return Figure(
        name="transfer-rates-curve",
        title="Accuracy on the validation over the learning rate",
        x=Axis(title="learning rate", scale="log"),
        y=Axis(title="validation accuracy (%)"),
        layers=(Layer(mark="line", **shared), Layer(mark="points", low="low", high="high", **shared)),
    )


def _approaches(found: Sequence[Group], outcomes: Mapping[str, Outcome]) -> Section | None:
    own = [group for kind in APPROACHES if (group := best(found, kind))]
    if not own:
        return None
    by_kind = {group.kind: group for group in own}
    return Section(
        title="Approaches compared",
        text="Each at the rate that the validation picked.",
        parts=(
            *_order(by_kind),
            *_frozen(by_kind, outcomes),
            *_winner(own),
            _bars(own),
            _table(own, "transfer-approaches", ""),
        ),
    )


def _order(by_kind: Mapping[str, Group]) -> Iterator[Finding]:
    """Document 000: fine-tuned features beat frozen ones, which beat none."""
    for high, low in (("finetune", "extractor"), ("extractor", "scratch"), ("finetune", "scratch")):
        if high in by_kind and low in by_kind:
            ours, other = by_kind[high].test, by_kind[low].test
            printed = document.THREE_ATTEMPTS
            yield Finding(
                text=f"{TITLES[high].capitalize()} reaches {percent(ours)} on the test, {TITLES[low]} "
                f"{percent(other)}: {_verdict(ours, other)}. Document 000: {printed[high]:.2f} % and "
                f"{printed[low]:.2f} %.",
                n=ours.n,
                holds=_holds(ours, other),
            )


def _frozen(by_kind: Mapping[str, Group], outcomes: Mapping[str, Outcome]) -> Iterator[Finding]:
    """Document 002: of what begins with pretrained weights, the frozen classifier is worst."""
    own = by_kind.get("freeze-classifier")
    others = [by_kind[kind] for kind in ("finetune", "parts", "extractor", "freeze-features") if kind in by_kind]
    if not own or not others:
        return
    lowest = min(others, key=lambda group: group.test.mean)
    yield Finding(
        text=f"With the classifier frozen and the convolutions trained it reaches {percent(own.test)}; the lowest of "
        f"the other attempts with pretrained weights is {TITLES[lowest.kind]} with {percent(lowest.test)}: "
        f"{_verdict(lowest.test, own.test)}. Document 002: 48.9 %, and 83.4 % or more for all others."
        + _share(outcomes),
        n=own.test.n,
        holds=_holds(lowest.test, own.test),
    )


def _share(outcomes: Mapping[str, Outcome]) -> str:
    """How much a frozen classifier holds back: its share of the parameters, beside that of the document's AlexNet."""
    measured = outcomes.get("moved")
    runs = measured.result if measured and measured.completed else {}
    trained = {name.split("-lr")[0]: one["parameters"] for name, one in runs.items()}
    if not {"freeze-classifier", "finetune"} <= trained.keys():
        return ""
    share = 1 - trained["freeze-classifier"] / trained["finetune"]
    return (
        f" Frozen are {100 * share:.2g} % of this network's parameters, and {document.DENSE_SHARE:.0f} % of AlexNet's."
    )


def _winner(own: Sequence[Group]) -> Iterator[Finding]:
    if len(own) < 2:
        return
    first, second, *_ = sorted(own, key=lambda group: -group.validation.mean)
    clear = first.validation.beats(second.validation)
    said = "is the winner" if clear else f"and {TITLES[second.kind]} cannot be told apart"
    yield Finding(
        text=f"By the validation {TITLES[first.kind]} at {first.lr:g} {said}: {percent(first.validation)} against "
        f"{percent(second.validation)}; on the test {percent(first.test)} and {percent(second.test)}.",
        n=first.validation.n,
    )


def _holds(high: Spread, low: Spread) -> bool | None:
    return high.beats(low) if high.n > 1 and low.n > 1 else None


def _verdict(high: Spread, low: Spread) -> str:
    more = high.minus(low)
    if more.n < 2:
        return "one repetition says no more"
    said = f"{abs(more.mean):.1f} points {'more' if more.mean > 0 else 'less'} ({more.low:+.1f} to {more.high:+.1f})"
    return said if more.low > 0 or more.high < 0 else f"{said}, which may be chance"


def _bars(own: Sequence[Group]) -> Figure:
    data = {
        "attempt": [TITLES[group.kind] for group in own],
        "accuracy": [group.test.mean for group in own],
        "low": [ends(group.test)[0] for group in own],
        "high": [ends(group.test)[1] for group in own],
    }
    return Figure(
        name="transfer-approaches-bars",
        title="Accuracy on the test, each attempt at its picked rate",
        x=Axis(title="attempt", scale="category"),
        y=Axis(title="test accuracy (%)"),
        layers=(Layer(mark="bars", data=data, x="attempt", y="accuracy", low="low", high="high"),),
    )


def _table(own: Sequence[Group], name: str, title: str) -> Table:
    rows = []
    for group in own:
        printed = document.at(group.kind, group.lr) or (document.best(group.kind) if "approaches" in name else None)
        measured = (group.validation, group.test) if group.runs else (None, None)
        rows.append(
            (
                TITLES[group.kind],
                group.lr,
                cells(measured[0])[0],
                *cells(measured[1]),
                group.lost,
                printed.test if printed else None,
                document.THREE_ATTEMPTS.get(group.kind),
            )
        )
    return Table(
        name=name,
        title=title or "Attempts at their picked rate, beside the documents'",
        columns=(
            "attempt",
            "learning rate",
            "validation (%)",
            "test (%)",
            "low",
            "high",
            "n",
            "lost",
            "002 test (%)",
            "000 test (%)",
        ),
        rows=tuple(rows),
        note=f"{SPREAD_NOTE} lost: trainings whose loss grew beyond all numbers. 002 is {document.SOURCE}, one "
        "repetition; 000 is the top of each leaderboard.",
    )


def _augmentation(found: Sequence[Group], settings: Settings, crops: Outcome | None) -> Section | None:
    plain = next((group for group in found if (group.kind, group.lr) == ("finetune", settings.lr)), None)
    own = [group for group in found if group.kind.startswith("augment-") and group.runs]
    if not plain or not plain.runs:
        return None
    parts: list[Finding | Table] = []
    for group in own:
        difference = _difference(plain, {run.seed: run.test for run in group.runs})
        printed = document.at(group.kind, document.best("finetune").lr)
        parts.append(
            Finding(
                text=f"{TITLES[group.kind].capitalize()}: {percent(group.test)} on the test, {_points(difference)} "
                f"beside none with the same seed. Document 002: {printed.test - document.best('finetune').test:+.1f}.",
                n=difference.n,
            )
        )
    if crops and crops.completed:
        parts.append(_crops(plain, crops.result["accuracy"]))
    if not parts:
        return None
    parts.append(_table([plain, *own], "transfer-augmentation", "Augmentation, beside the document's"))
    return Section(
        title="Augmentation and ten crops",
        text=f"All at {settings.lr:g}. Each change is made to half of the images, drawn anew in every epoch; "
        "differences are taken seed by seed.",
        parts=tuple(parts),
    )


def _crops(plain: Group, accuracy: Mapping[str, float]) -> Finding:
    by_seed = {run.seed: 100 * accuracy[f"finetune-lr{run.lr:g}-seed{run.seed}"] for run in plain.runs}
    difference = _difference(plain, by_seed)
    return Finding(
        text=f"Tested on ten crops an image the same networks reach {percent(spread(list(by_seed.values())))} in "
        f"place of {percent(plain.test)}: {_points(difference)}. Document 002: 87.2 % in place of 87.1 %.",
        n=difference.n,
    )


def _difference(plain: Group, tests: Mapping[int, float]) -> Spread:
    return spread([tests[run.seed] - run.test for run in plain.runs if run.seed in tests])


def _points(difference: Spread) -> str:
    if difference.n < 2:
        return f"{difference.mean:+.1f} points"
    surely = "" if difference.low > 0 or difference.high < 0 else ", which may be chance"
    return f"{difference.mean:+.1f} points ({difference.low:+.1f} to {difference.high:+.1f}){surely}"


def _why(found: Sequence[Group], outcomes: Mapping[str, Outcome]) -> Section | None:
    """What explains the order: what is known at the start, how much trains, how far it moves, what it costs."""
    own = [group for kind in APPROACHES if (group := best(found, kind))]
    if len(own) < 2:
        return None
    measured = outcomes.get("moved")
    moved: Mapping[str, Any] = measured.result if measured and measured.completed else {}
    extractor = outcomes.get("extractor")
    costs = extractor.result if extractor and extractor.completed else {}
    return Section(
        title="What explains it",
        parts=(
            *_first_epoch(own),
            *_left_to_learn(found, costs, outcomes),
            *_cost(own, costs),
            _curves(own),
            _explanation(own, costs, moved),
            *_distances(moved),
        ),
    )


def _first_epoch(own: Sequence[Group]) -> Iterator[Finding]:
    by_kind = {group.kind: group for group in own}
    if {"finetune", "scratch"} <= by_kind.keys():
        tuned, scratch = (spread([run.curve[0][1] for run in by_kind[kind].runs]) for kind in ("finetune", "scratch"))
        last = by_kind["scratch"].validation
        yield Finding(
            text=f"At the first evaluation the pretrained network has {percent(tuned)}, and the one from scratch "
            f"{percent(scratch)}, in the end {percent(last)}: what it would have to learn from few images, the "
            f"pretrained one has learned from others. Document 002 has {document.FIRST_EPOCH:.0f} % after one epoch.",
            n=tuned.n,
            holds=_holds(tuned, scratch),
        )


def _left_to_learn(
    found: Sequence[Group], costs: Mapping[str, Any], outcomes: Mapping[str, Outcome]
) -> Iterator[Finding]:
    """How well the training images are learned with and without the convolutions: the lowest loss of all rates."""
    target, lowest = outcomes.get("target"), {}
    for kind in ("extractor", "finetune"):
        losses = [loss for group in found if group.kind == kind and (loss := _loss(group)) is not None]
        lowest |= {kind: min(losses)} if losses else {}
    if len(lowest) == 2 and target and target.completed:
        counts = target.result["images"]["train"]
        yield Finding(
            text=f"From {sum(counts) / len(counts):.0f} images a class the last layer alone, {costs['parameters']:,} "
            f"parameters, comes down to a training loss of {lowest['extractor']:.2g}, fine-tuning to "
            f"{lowest['finetune']:.2g}."
            + (" The features need not move to tell these images apart." if lowest["extractor"] < SMALL else ""),
            n=min(len(group.runs) for group in found if group.kind in lowest and group.runs),
        )


SMALL = 0.1
"""A mean loss at which the right class has 90 % of the probability."""


def _loss(group: Group) -> float | None:
    """Training loss at the end, mean over those seeds where it is a number."""
    losses = [run.loss for run in group.runs if run.loss is not None and math.isfinite(run.loss)]
    return sum(losses) / len(losses) if losses else None


def _cost(own: Sequence[Group], costs: Mapping[str, Any]) -> Iterator[Finding]:
    tuned = next((group for group in own if group.kind == "finetune"), None)
    if tuned and costs:
        each = sum(run.train_s for run in tuned.runs) / len(tuned.runs)
        heads = len(costs["heads"])
        yield Finding(
            text=f"Features of {costs['images']:,} images took {costs['features_s']:.1f} s, and {heads} last layers "
            f"on them {costs['heads_s']:.1f} s; one fine-tuning trains for {each:.1f} s.",
            n=1,
        )


def _explanation(own: Sequence[Group], costs: Mapping[str, Any], moved: Mapping[str, Any]) -> Table:
    rows = []
    whole = max((one["parameters"] for one in moved.values()), default=None)
    for group in own:
        one = moved.get(f"{group.kind}-lr{group.lr:g}-seed0", {})
        seconds = [run.train_s for run in group.runs if run.train_s is not None]
        distances = one.get("distance", {})
        features = [distance for block, distance in distances.items() if block != "classifier"]
        rows.append(
            (
                TITLES[group.kind],
                costs.get("parameters") if group.kind == "extractor" else one.get("parameters", whole),
                sum(seconds) / len(seconds) if seconds else None,
                spread([run.curve[0][1] for run in group.runs]).mean,
                _loss(group),
                group.test.mean,
                sum(features) / len(features) if features else (0.0 if group.kind == "extractor" else None),
                distances.get("classifier"),
            )
        )
    return Table(
        name="transfer-explanation",
        title="What trains, how long, and how far it moves",
        columns=(
            "attempt",
            "trained parameters",
            "training (s)",
            "first evaluation (%)",
            "training loss at the end",
            "test (%)",
            "features moved",
            "classifier moved",
        ),
        rows=tuple(rows),
        note="moved: |after - before| / |before| over a block's weights, mean over the blocks of the features; of seed "
        "0, where the picked rate is the one at which masks are compared.",
    )


def _distances(moved: Mapping[str, Any]) -> Iterator[Figure]:
    rows = [
        (number, TITLES[name.split("-lr")[0]], distance)
        for name, one in moved.items()
        for number, distance in enumerate(one["distance"].values(), start=1)
    ]
    if rows:
        block, attempt, distance = zip(*rows, strict=True)
        data = {"block": block, "attempt": attempt, "moved": distance}
        yield Figure(
            name="transfer-moved",
            title="How far each block moved from the pretrained weights",
            x=Axis(title="block, the classifier last"),
            y=Axis(title="|after - before| / |before|"),
            layers=tuple(Layer(mark=mark, data=data, x="block", y="moved", series="attempt") for mark in MARKS),
        )


MARKS = ("line", "points")


def _curves(own: Sequence[Group]) -> Figure:
    rows = []
    for group in own:
        for number, (epoch, _) in enumerate(group.runs[0].curve):
            value = spread([run.curve[number][1] for run in group.runs if number < len(run.curve)])
            rows.append((epoch, TITLES[group.kind], value.mean, *ends(value)))
    epoch, attempt, mean, low, high = zip(*rows, strict=True)
    data = {"epoch": epoch, "attempt": attempt, "accuracy": mean, "low": low, "high": high}
    shared = {"data": data, "x": "epoch", "series": "attempt"}
    return Figure(
        name="transfer-curves",
        title="Accuracy on the validation as training goes on",
        x=Axis(title="epochs"),
        y=Axis(title="validation accuracy (%)"),
        layers=(Layer(mark="line", y="accuracy", **shared), Layer(mark="points", y="accuracy", **shared)),
    )
