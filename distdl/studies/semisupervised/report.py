"""Results of study `semisupervised`: accuracy by K and P, and the share of correct pseudo-labels that explains it."""

from collections.abc import Iterator, Mapping, Sequence

from distdl.core.format import Cell
from distdl.core.statistics import Spread, above_zero, gain, over_seeds, points
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import by_seed, cells, mean_accuracy, percent
from distdl.studies.semisupervised.trials import Case

LabelsPerImage = tuple[int, int]
"""K and P."""


def section(
    group: Sequence[Case], choices: Sequence[LabelsPerImage], p: int, outcomes: Mapping[str, Outcome]
) -> Section | None:
    """Return the results of one data set and share of labels over its seeds; None while there are none."""
    finetuned = {choice: _by_seed(group, "finetune", choice, outcomes) for choice in choices}
    finetuned = {choice: values for choice, values in finetuned.items() if values}
    alone = _by_seed(group, _alone(group[0]), (), outcomes)
    if not finetuned or not alone:
        return None
    case = group[0]
    return Section(
        title=f"{case.data}, {case.share:.2%} of the labels".replace(".00%", "%"),
        text=f"A teacher ({case.teacher}) trained on {case.labels:,} labeled images labels the others. A student "
        f"({case.student}) is pre-trained on these pseudo-labels and fine-tuned on the true labels. K: pseudo-labeled "
        "images per class. P: classes per image.",
        parts=(
            *_findings(group, finetuned, alone, p, outcomes),
            *_sweep(case, finetuned, alone, p),
            *_right(group, choices, p, outcomes),
            _table(group, choices, finetuned, alone, outcomes),
        ),
    )


def _alone(case: Case) -> str:
    """The training on the true labels alone: the teacher's, if it has the same network as the student."""
    return "teacher" if case.teacher == case.student else "alone"


def _by_seed(
    group: Sequence[Case], part: str, choice: LabelsPerImage | tuple[()], outcomes: Mapping[str, Outcome]
) -> dict[int, float]:
    return by_seed({case.seed: outcomes.get(case.name(part, *choice)) for case in group})


def _findings(
    group: Sequence[Case],
    finetuned: Mapping[LabelsPerImage, dict[int, float]],
    alone: dict[int, float],
    p: int,
    outcomes: Mapping[str, Outcome],
) -> Iterator[Finding]:
    sweep = {k: values for (k, number), values in sorted(finetuned.items()) if number == p}
    if sweep:
        best = max(sweep, key=lambda k: over_seeds(sweep[k]).mean)
        smallest, largest = min(sweep), max(sweep)
        if more := gain(sweep[best], alone):
            yield Finding(
                text=f"With K = {best:,} the student reaches {percent(over_seeds(sweep[best]))}, training on the true "
                f"labels alone {percent(over_seeds(alone))}. Difference, paired by seed: {points(more)}. K is selected "
                "on the test set.",
                n=more.n,
                holds=above_zero(more),
            )
        rise, fall = gain(sweep[best], sweep[smallest]), gain(sweep[best], sweep[largest])
        if smallest < largest and rise and fall:
            significant = (above_zero(rise), above_zero(fall))
            yield Finding(
                text=f"Accuracy by K: {percent(over_seeds(sweep[smallest]))} at {smallest:,}, "
                f"{percent(over_seeds(sweep[best]))} at {best:,}, {percent(over_seeds(sweep[largest]))} at "
                f"{largest:,}. Paired by seed, the rise is {_checked(rise)}, and the fall is {_checked(fall)}. In the "
                "paper accuracy rises and then falls.",
                n=rise.n,
                holds=None if None in significant else all(significant) and smallest < best < largest,
            )
    for (k, other), values in sorted(finetuned.items()):
        if other != p and (more := gain(values, finetuned.get((k, p), {}))):
            correct = [_choice(group, (k, number), outcomes, "right") for number in (other, p)]
            yield Finding(
                text=f"P = {other} instead of {p} at K = {k:,}: {points(more)}; {correct[0]:.0%} of the pseudo-labels "
                f"are correct instead of {correct[1]:.0%}.",
                n=more.n,
            )


def _checked(difference: Spread) -> str:
    return f"{points(difference)}, {'significant' if above_zero(difference) else 'not significant'}"


def _choice(group: Sequence[Case], choice: LabelsPerImage, outcomes: Mapping[str, Outcome], key: str) -> float:
    """Mean over the seeds of the value `key` that the scoring trials report for a choice."""
    values = [
        row[key]
        for case in group
        if (outcome := outcomes.get(case.name("scores"))) and outcome.completed
        for row in outcome.result["choices"]
        if (row["k"], row["p"]) == choice
    ]
    return sum(values) / len(values)


def _sweep(
    case: Case, finetuned: Mapping[LabelsPerImage, dict[int, float]], alone: dict[int, float], p: int
) -> Iterator[Figure]:
    swept = [(k, over_seeds(values)) for (k, number), values in sorted(finetuned.items()) if number == p]
    if not swept:
        return
    data = {
        "K": [k for k, _ in swept],
        "accuracy": [value.mean for _, value in swept],
        "low": [value.ends[0] for _, value in swept],
        "high": [value.ends[1] for _, value in swept],
        "training": [f"student, P = {p}"] * len(swept),
    }
    rule = {"accuracy": [over_seeds(alone).mean], "training": ["labels alone"]}
    yield Figure(
        name=f"{case.data}-{case.share:g}-k".replace(".", "_"),
        title=f"{case.data}, {case.labels:,} labels: accuracy by K",
        x=Axis(title="K, images per class", scale="log"),
        y=Axis(title="test accuracy (%)"),
        layers=(
            PlotLayer(mark="rule", data=rule, y="accuracy", series="training"),
            PlotLayer(mark="line", data=data, x="K", y="accuracy", series="training"),
            PlotLayer(mark="points", data=data, x="K", y="accuracy", low="low", high="high", series="training"),
        ),
        caption="Means and 95 % confidence intervals over the seeds. Horizontal line: true labels alone.",
    )


def _right(
    group: Sequence[Case], choices: Sequence[LabelsPerImage], p: int, outcomes: Mapping[str, Outcome]
) -> Iterator[Figure]:
    """Share of the teacher's labels that are correct, which explains why accuracy falls for a large K."""
    case, ks = group[0], [k for k, number in choices if number == p]
    if not ks or not any(outcomes.get(c.name("scores")) and outcomes[c.name("scores")].completed for c in group):
        return
    data = {"K": ks, "right": [100 * _choice(group, (k, p), outcomes, "right") for k in ks]}
    yield Figure(
        name=f"{case.data}-{case.share:g}-right".replace(".", "_"),
        title=f"{case.data}, {case.labels:,} labels: share of correct pseudo-labels",
        x=Axis(title="K, images per class", scale="log"),
        y=Axis(title="correct pseudo-labels (%)"),
        layers=(
            PlotLayer(mark="line", data=data, x="K", y="right"),
            PlotLayer(mark="points", data=data, x="K", y="right"),
        ),
        caption="A larger K adds harder and more varied images, but also wrong labels.",
    )


def _table(
    group: Sequence[Case],
    choices: Sequence[LabelsPerImage],
    finetuned: Mapping[LabelsPerImage, dict[int, float]],
    alone: dict[int, float],
    outcomes: Mapping[str, Outcome],
) -> Table:
    rows: list[tuple[Cell, ...]] = [("labels alone", None, None, None, None, None, *cells(over_seeds(alone)), None)]
    for choice in choices:
        if choice not in finetuned:
            continue
        pretrained = mean_accuracy(outcomes.get(case.name("pretrain", *choice)) for case in group)
        more = gain(finetuned[choice], alone)
        rows.append(
            (
                "student",
                *choice,
                round(_choice(group, choice, outcomes, "labels")),
                round(100 * _choice(group, choice, outcomes, "right"), 1),
                round(pretrained.mean, 2) if pretrained else None,
                *cells(over_seeds(finetuned[choice])),
                round(more.mean, 2) if more else None,
            )
        )
    return Table(
        name=f"{group[0].data}-{group[0].share:g}".replace(".", "_"),
        title="Test accuracy",
        columns=(
            "training",
            "K",
            "P",
            "pseudo-labels",
            "correct (%)",
            "before fine-tuning (%)",
            "accuracy (%)",
            "low",
            "high",
            "n",
            "gain (points)",
        ),
        rows=tuple(rows),
        note="low and high: 95 % confidence interval over the seeds, each with its own labels and teacher. gain: mean "
        "difference to training on the true labels alone, paired by seed.",
    )
