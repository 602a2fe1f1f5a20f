"""Learning rates: which one the validation selects for each attempt."""

from collections.abc import Sequence

from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.studies.runner.accuracy import cells, percent
from distdl.studies.transfer import published
from distdl.studies.transfer.results import RateResult, best
from distdl.studies.transfer.trials import TITLES


def section(results: Sequence[RateResult]) -> Section | None:
    """Attempts with several rates; None if there are none."""
    tried = [result for result in results if sum(other.kind == result.kind for other in results) > 1]
    if not tried:
        return None
    return Section(
        title="Learning rates",
        text="For each attempt the validation selects the rate, and within a training the epoch. The selected network "
        "is tested once; the test accuracies of the other rates are only listed in the table.",
        parts=(*map(_selected, _by_kind(tried)), _figure(tried), table(tried, "transfer-rates", "Every rate")),
    )


def _by_kind(results: Sequence[RateResult]) -> list[list[RateResult]]:
    groups = ([result for result in results if result.kind == kind] for kind in TITLES)
    return [group for group in groups if group]


def _selected(group: Sequence[RateResult]) -> Finding:
    kind = group[0].kind
    selected = best(group, kind)
    lost = [f"{result.lr:g}" for result in group if result.lost]
    diverged = f" At {', '.join(lost)} the loss grew beyond all numbers." if lost else ""
    if selected is None:
        return Finding(text=f"{TITLES[kind].capitalize()}: no rate was trained to the end.{diverged}", n=0)
    others = [result for result in group if result is not selected and result.runs]
    is_clear = all(selected.validation.beats(result.validation) for result in others)
    remark = "" if is_clear else ", although the difference to others may be chance"
    printed = published.best(kind)
    reference = f" The AlexNet experiment selects {printed.lr:g}." if printed else ""
    return Finding(
        text=f"{TITLES[kind].capitalize()}: of {len(group)} rates, {selected.lr:g} is best on the validation with "
        f"{percent(selected.validation)}{remark}.{diverged}{reference}",
        n=selected.validation.n,
    )


def _figure(tried: Sequence[RateResult]) -> Figure:
    completed = [result for result in tried if result.runs]
    data = {
        "learning rate": [result.lr for result in completed],
        "accuracy": [result.validation.mean for result in completed],
        "low": [result.validation.ends[0] for result in completed],
        "high": [result.validation.ends[1] for result in completed],
        "attempt": [TITLES[result.kind] for result in completed],
    }
    return Figure(
        name="transfer-rates-curve",
        title="Accuracy on the validation over the learning rate",
        x=Axis(title="learning rate", scale="log"),
        y=Axis(title="validation accuracy (%)"),
        layers=(
            Layer(mark="line", data=data, x="learning rate", y="accuracy", series="attempt"),
            Layer(mark="points", data=data, x="learning rate", y="accuracy", series="attempt", low="low", high="high"),
        ),
    )


def table(results: Sequence[RateResult], name: str, title: str, *, best_printed: bool = False) -> Table:
    """Measured accuracies next to the published ones.

    Args:
        best_printed: where no result of the same rate was published, show the best one of the attempt.
    """
    rows = []
    for result in results:
        printed = published.at(result.kind, result.lr) or (published.best(result.kind) if best_printed else None)
        validation, test = (result.validation, result.test) if result.runs else (None, None)
        rows.append(
            (
                TITLES[result.kind],
                result.lr,
                cells(validation)[0],
                *cells(test),
                result.lost,
                printed.test if printed else None,
                published.THREE_ATTEMPTS.get(result.kind),
            )
        )
    return Table(
        name=name,
        title=title,
        columns=(
            "attempt",
            "learning rate",
            "validation (%)",
            "test (%)",
            "low",
            "high",
            "n",
            "lost",
            "AlexNet test (%)",
            "leaderboard test (%)",
        ),
        rows=tuple(rows),
        note="low and high: 95 % interval over the seeds. lost: trainings whose loss grew beyond all numbers. AlexNet: "
        f"{published.SOURCE}, one repetition; leaderboard: the top of each leaderboard of the AlexNet leaderboard "
        "experiment.",
    )
