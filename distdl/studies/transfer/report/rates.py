"""Learning rates: the one selected by validation accuracy, for each approach."""

from collections.abc import Sequence

from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.runner.accuracy import cells, percent
from distdl.studies.transfer import published
from distdl.studies.transfer.results import RateResult, best
from distdl.studies.transfer.trials import TITLES


def section(results: Sequence[RateResult]) -> Section | None:
    """Return the approaches that were trained at several learning rates; None if there are none."""
    tried = [result for result in results if sum(other.kind == result.kind for other in results) > 1]
    if not tried:
        return None
    return Section(
        title="Learning rates",
        text="Validation accuracy selects the learning rate of each approach, and the epoch of each training. The "
        "selected network is tested once; the test accuracies at other learning rates are only listed in the table.",
        parts=(*map(_selected, _by_kind(tried)), _figure(tried), table(tried, "transfer-rates", "All learning rates")),
    )


def _by_kind(results: Sequence[RateResult]) -> list[list[RateResult]]:
    groups = ([result for result in results if result.kind == kind] for kind in TITLES)
    return [group for group in groups if group]


def _selected(group: Sequence[RateResult]) -> Finding:
    kind = group[0].kind
    selected = best(group, kind)
    diverged_rates = [f"{result.lr:g}" for result in group if result.diverged]
    diverged = f" At {', '.join(diverged_rates)} the training diverged." if diverged_rates else ""
    if selected is None:
        return Finding(text=f"{TITLES[kind].capitalize()}: no training was completed.{diverged}", n=0)
    others = [result for result in group if result is not selected and result.runs]
    is_significant = all(selected.validation.beats(result.validation) for result in others)
    remark = "" if is_significant else ", but it is not significantly better than all others"
    printed = published.best(kind)
    reference = f" The AlexNet experiment selects {printed.lr:g}." if printed else ""
    return Finding(
        text=f"{TITLES[kind].capitalize()}: of {len(group)} learning rates, {selected.lr:g} has the best validation "
        f"accuracy, {percent(selected.validation)}{remark}.{diverged}{reference}",
        n=selected.validation.n,
    )


def _figure(tried: Sequence[RateResult]) -> Figure:
    completed = [result for result in tried if result.runs]
    data = {
        "learning rate": [result.lr for result in completed],
        "accuracy": [result.validation.mean for result in completed],
        "low": [result.validation.ends[0] for result in completed],
        "high": [result.validation.ends[1] for result in completed],
        "approach": [TITLES[result.kind] for result in completed],
    }
    return Figure(
        name="transfer-rates-curve",
        title="Validation accuracy by learning rate",
        x=Axis(title="learning rate", scale="log"),
        y=Axis(title="validation accuracy (%)"),
        layers=(
            PlotLayer(mark="line", data=data, x="learning rate", y="accuracy", series="approach"),
            PlotLayer(
                mark="points", data=data, x="learning rate", y="accuracy", series="approach", low="low", high="high"
            ),
        ),
    )


def table(results: Sequence[RateResult], name: str, title: str, *, best_printed: bool = False) -> Table:
    """Return a table of measured and published accuracies.

    Args:
        best_printed: if no result at the same learning rate was published, show the best published one of the approach.
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
                result.diverged,
                printed.test if printed else None,
                published.THREE_ATTEMPTS.get(result.kind),
            )
        )
    return Table(
        name=name,
        title=title,
        columns=(
            "approach",
            "learning rate",
            "validation (%)",
            "test (%)",
            "low",
            "high",
            "n",
            "diverged",
            "AlexNet test (%)",
            "leaderboard test (%)",
        ),
        rows=tuple(rows),
        note="low and high: 95 % confidence interval over the seeds. diverged: trainings whose loss was not finite. "
        f"AlexNet: {published.SOURCE}, one repetition; leaderboard: the best slot of each leaderboard in the AlexNet "
        "leaderboard experiment.",
    )
