"""What the trials of study `semisupervised` show: accuracy over K and P, and why, by how many labels are right."""

from collections.abc import Iterator, Mapping, Sequence

from distdl.core.statistics import Spread, above_zero, gain, points, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import accuracies, cells, mean_accuracy, percent
from distdl.studies.semisupervised.trials import Case

Choice = tuple[int, int]
"""K and P."""


def section(
    group: Sequence[Case], choices: Sequence[Choice], p: int, outcomes: Mapping[str, Outcome]
) -> Section | None:
    """The seeds of one set and share of labels; None while there is nothing to show."""
    finetuned = {choice: _by_seed(group, "finetune", choice, outcomes) for choice in choices}
    finetuned = {choice: values for choice, values in finetuned.items() if values}
    alone = _by_seed(group, _alone(group[0]), (), outcomes)
    if not finetuned or not alone:
        return None
    case = group[0]
    return Section(
        title=f"{case.data}, {case.share:.2%} of the labels".replace(".00%", "%"),
        text=f"{case.labels:,} images with labels; a teacher ({case.teacher}) labels the others, a student "
        f"({case.student}) is trained on its labels and then on the true ones. K images a class, P classes an image.",
        parts=(
            *_findings(group, finetuned, alone, p, outcomes),
            *_sweep(case, finetuned, alone, p),
            *_right(group, choices, p, outcomes),
            _table(group, choices, finetuned, alone, outcomes),
        ),
    )


def _alone(case: Case) -> str:
    """The training on the labels alone: the teacher itself, where both are one network."""
    return "teacher" if case.teacher == case.student else "alone"


def _by_seed(
    group: Sequence[Case], part: str, choice: Choice | tuple[()], outcomes: Mapping[str, Outcome]
) -> dict[int, float]:
    """Test accuracy in per cent by seed, of those trials that are completed."""
    done = {case.seed: accuracies([outcomes.get(case.name(part, *choice))]) for case in group}
    return {seed: values[0] for seed, values in done.items() if values}


def _of(values: Mapping[int, float]) -> Spread:
    return spread(list(values.values()))


def _findings(
    group: Sequence[Case],
    finetuned: Mapping[Choice, dict[int, float]],
    alone: dict[int, float],
    p: int,
    outcomes: Mapping[str, Outcome],
) -> Iterator[Finding]:
    sweep = {k: values for (k, own), values in sorted(finetuned.items()) if own == p}
    if sweep:
        best = max(sweep, key=lambda k: _of(sweep[k]).mean)
        smallest, largest = min(sweep), max(sweep)
        if more := gain(sweep[best], alone):
            yield Finding(
                text=f"With K = {best:,} the student reaches {percent(_of(sweep[best]))}, the labels alone "
                f"{percent(_of(alone))}: seed by seed {points(more)}. The K is picked by the test set.",
                n=more.n,
                holds=above_zero(more),
            )
        rise, fall = gain(sweep[best], sweep[smallest]), gain(sweep[best], sweep[largest])
        if smallest < largest and rise and fall:
            sure = (above_zero(rise), above_zero(fall))
            yield Finding(
                text=f"Accuracy over K: {percent(_of(sweep[smallest]))} at {smallest:,}, {percent(_of(sweep[best]))} "
                f"at {best:,}, {percent(_of(sweep[largest]))} at {largest:,}. Seed by seed it "
                f"{_verb(rise, 'rises')} by {points(rise)} and then {_verb(fall, 'falls')} by {points(fall)}; the "
                "paper's rises and then falls.",
                n=rise.n,
                holds=None if None in sure else all(sure) and smallest < best < largest,
            )
    for (k, own), values in sorted(finetuned.items()):
        if own != p and (more := gain(values, finetuned.get((k, p), {}))):
            right = [_choice(group, (k, number), outcomes, "right") for number in (own, p)]
            yield Finding(
                text=f"P = {own} in place of {p} at K = {k:,}: {points(more)}; of its labels {right[0]:.0%} are right "
                f"in place of {right[1]:.0%}.",
                n=more.n,
            )


def _verb(difference: Spread, verb: str) -> str:
    return verb if above_zero(difference) else f"perhaps {verb}"


def _choice(group: Sequence[Case], choice: Choice, outcomes: Mapping[str, Outcome], key: str) -> float:
    """Mean over the seeds of what the scores' result says of a choice."""
    values = [
        row[key]
        for case in group
        if (outcome := outcomes.get(case.name("scores"))) and outcome.completed
        for row in outcome.result["choices"]
        if (row["k"], row["p"]) == choice
    ]
    return sum(values) / len(values)


def _sweep(
    case: Case, finetuned: Mapping[Choice, dict[int, float]], alone: dict[int, float], p: int
) -> Iterator[Figure]:
    own = [(k, _of(values)) for (k, number), values in sorted(finetuned.items()) if number == p]
    if not own:
        return
    data = {
        "K": [k for k, _ in own],
        "accuracy": [value.mean for _, value in own],
        "low": [value.ends[0] for _, value in own],
        "high": [value.ends[1] for _, value in own],
        "training": [f"student, P = {p}"] * len(own),
    }
    rule = {"accuracy": [_of(alone).mean], "training": ["labels alone"]}
    yield Figure(
        name=f"{case.data}-{case.share:g}-k".replace(".", "_"),
        title=f"{case.data}, {case.labels:,} labels: accuracy over K",
        x=Axis(title="K, images a class", scale="log"),
        y=Axis(title="test accuracy (%)"),
        layers=(
            Layer(mark="rule", data=rule, y="accuracy", series="training"),
            Layer(mark="line", data=data, x="K", y="accuracy", series="training"),
            Layer(mark="points", data=data, x="K", y="accuracy", low="low", high="high", series="training"),
        ),
        caption="Means and 95 % intervals over the seeds; the line across is the training on the labels alone.",
    )


def _right(
    group: Sequence[Case], choices: Sequence[Choice], p: int, outcomes: Mapping[str, Outcome]
) -> Iterator[Figure]:
    """Why it falls: the share of the teacher's labels that are right."""
    case, own = group[0], [k for k, number in choices if number == p]
    if not own or not any(outcomes.get(c.name("scores")) and outcomes[c.name("scores")].completed for c in group):
        return
    data = {"K": own, "right": [100 * _choice(group, (k, p), outcomes, "right") for k in own]}
    yield Figure(
        name=f"{case.data}-{case.share:g}-right".replace(".", "_"),
        title=f"{case.data}, {case.labels:,} labels: how many of the teacher's labels are right",
        x=Axis(title="K, images a class", scale="log"),
        y=Axis(title="right labels (%)"),
        layers=(Layer(mark="line", data=data, x="K", y="right"), Layer(mark="points", data=data, x="K", y="right")),
        caption="With K a class come images that are harder and of more kinds, and labels that are wrong.",
    )


def _table(
    group: Sequence[Case],
    choices: Sequence[Choice],
    finetuned: Mapping[Choice, dict[int, float]],
    alone: dict[int, float],
    outcomes: Mapping[str, Outcome],
) -> Table:
    rows = [("labels alone", None, None, None, None, None, *cells(_of(alone)), None)]
    for choice in choices:
        if choice not in finetuned:
            continue
        before = mean_accuracy(outcomes.get(case.name("pretrain", *choice)) for case in group)
        more = gain(finetuned[choice], alone)
        rows.append(
            (
                "student",
                *choice,
                round(_choice(group, choice, outcomes, "labels")),
                round(100 * _choice(group, choice, outcomes, "right"), 1),
                round(before.mean, 2) if before else None,
                *cells(_of(finetuned[choice])),
                round(more.mean, 2) if more else None,
            )
        )
    return Table(
        name=f"{group[0].data}-{group[0].share:g}".replace(".", "_"),
        title="Accuracy on the test set",
        columns=(
            "training",
            "K",
            "P",
            "teacher's labels",
            "of them right (%)",
            "before fine-tuning (%)",
            "accuracy (%)",
            "low",
            "high",
            "n",
            "gain (points)",
        ),
        rows=tuple(rows),
        note="low and high: 95 % interval over the seeds, each with labels and a teacher of its own; gain: over the "
        "labels alone, mean of the differences seed by seed.",
    )
