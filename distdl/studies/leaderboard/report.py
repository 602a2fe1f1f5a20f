"""Results of study `leaderboard`: the attempts and the published ones, their cost, and the lineage of each board."""

from collections.abc import Mapping
from typing import Any

from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.report.sentences import certainty
from distdl.studies.base import Outcome
from distdl.studies.leaderboard import history, tree
from distdl.studies.leaderboard.board import Board
from distdl.studies.leaderboard.trials import PUBLISHED_ACCURACY, LeaderboardSettings, board_of, boards

Tops = dict[tuple[str, str], list[Mapping[str, Any]]]


def findings(settings: LeaderboardSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return the comparison of the attempts, their cost, and a section for each board."""
    tops: Tops = {}
    for name, labels in boards(settings):
        top = outcomes.get(f"{name}-top")
        if top and top.completed:
            tops.setdefault((labels["rule"], labels["attempt"]), []).append(top.result)
    sections = [Section(title="Three attempts", text=_ABOUT, parts=(*_sentences(settings, tops), _attempts(tops)))]
    with_events = []
    for name, labels in boards(settings):
        outcome = next((outcome for key, outcome in outcomes.items() if key.startswith(f"{name}-")), None)
        if outcome is not None and (board := Board(board_of(outcome.folder, {"board": name}))).folder.is_dir():
            with_events.append((name, labels, board, board.rows()))
    if with_events:
        curves = [(name, *history.best_so_far(rows)) for name, _, _, rows in with_events]
        sections.append(Section(title="Time", parts=(_best_over_time(curves), _processes(settings, outcomes))))
    for name, labels, board, rows in with_events:
        state = board.state()
        if state.slots:
            title = f"{labels['attempt']}, {labels['rule']}, seed {labels['seed']}"
            parts = (_board(name, board), tree.table(name, rows, state), tree.figure(name, rows, state))
            sections.append(Section(title=title, parts=parts))
    return sections


_ABOUT = (
    "The score on a board is the validation accuracy. At the end the best slot of each board is tested once. The "
    "published experiment scored and selected on its test data."
)


def _accuracy(results: list[Mapping[str, Any]]) -> Spread:
    return spread([100 * result["test"]["accuracy"] for result in results])


def _sentences(settings: LeaderboardSettings, tops: Tops) -> list[Finding]:
    reached = {
        attempt: _accuracy(tops["ratchet", attempt]) for attempt in settings.attempts if ("ratchet", attempt) in tops
    }
    sentences = [
        Finding(
            text=f"{attempt}: the best slot of the board has a test accuracy of {_interval(accuracy)}; the published "
            f"one has {100 * PUBLISHED_ACCURACY[attempt]:.2f} %, with AlexNet on other data.",
            n=accuracy.n,
        )
        for attempt, accuracy in reached.items()
    ]
    for worse, better in (("scratch", "frozen"), ("frozen", "fine-tuned")):
        if worse in reached and better in reached:
            low, high = reached[worse], reached[better]
            difference = high.mean - low.mean
            text = f"{better} reaches {abs(difference):.1f} points {'more' if difference > 0 else 'less'} than {worse}"
            sentences.append(Finding(text=f"{text} ({certainty(high, low)}).", n=low.n, holds=difference > 0))
    for attempt, accuracy in reached.items():
        if ("population", attempt) in tops:
            other = _accuracy(tops["population", attempt])
            text = (
                f"{attempt}: replacing the worst slot reaches {_interval(accuracy)}, population-based training with "
                f"the same number of epochs {_interval(other)}; the difference is {certainty(accuracy, other)}."
            )
            sentences.append(Finding(text=text, n=accuracy.n))
    return sentences


def _interval(accuracy: Spread) -> str:
    """ "57.78 % (55.10 to 60.46)"."""
    descendants = f" ({accuracy.low:.2f} to {accuracy.high:.2f})" if accuracy.n > 1 else ""
    return f"{accuracy.mean:.2f} %{descendants}"


def _attempts(tops: Tops) -> Table:
    columns = (
        *("attempt", "rule", "n", "published (%)", "test (%)", "score (%)", "epochs", "accepted"),
        *("interrupted", "slices", "processes", "compute (s)", "epoch (s)"),
    )
    rows = []
    for (rule, attempt), results in tops.items():
        mean = {key: sum(result[key] for result in results) / len(results) for key in _SUMMED}
        published = 100 * PUBLISHED_ACCURACY[attempt] if rule == "ratchet" else None
        tested = round(_accuracy(results).mean, 2)
        score = round(100 * mean.pop("score"), 2)
        rows.append(
            (attempt, rule, len(results), published, tested, score, *(round(value, 2) for value in mean.values()))
        )
    note = (
        "Means over n seeds. accepted: epochs whose weights were put on the board; interrupted: epochs that the end of "
        "their process cut short; processes: largest number at the same time; compute: seconds for which processes "
        "held a device, including start-up and lost slices."
    )
    return Table(name="attempts", title="Attempts", columns=columns, rows=tuple(rows), note=note)


_SUMMED = ("score", "epochs", "published", "cut", "slices", "at_once", "compute_s", "epoch_s")


def _processes(settings: LeaderboardSettings, outcomes: Mapping[str, Outcome]) -> Table:
    columns = (
        "process",
        "slices",
        "accepted",
        "dropped",
        "interrupted",
        "device",
        "device time (s)",
        "idle",
        "energy (J)",
    )
    keys = ("slices", "published", "dropped", "cut", "device", "device_seconds", "idle_share", "energy_j")
    rows = []
    for name, outcome in outcomes.items():
        if outcome.trial.labels.get("part") != "top":
            values = [outcome.result.get(key) for key in keys]
            rows.append((name, *(round(value, 3) if isinstance(value, float) else value for value in values)))
    note = "idle: measured share of the time in which the device was idle; energy: only if the device reports it."
    return Table(name="processes", title="Work of each process", columns=columns, rows=tuple(rows), note=note)


def _best_over_time(curves: list[tuple[str, list[float], list[float]]]) -> Figure:
    data: dict[str, list[Any]] = {"x": [], "y": [], "board": []}
    for name, seconds, best in curves:
        data["x"] += seconds
        data["y"] += [100 * score for score in best]
        data["board"] += [name] * len(seconds)
    return Figure(
        name="best",
        title="Best score on each board",
        x=Axis(title="device time, summed over processes (s)"),
        y=Axis(title="best score on the board (%)"),
        layers=(PlotLayer(mark="line", data=data, series="board"),),
        caption="The best score never falls if the worst slot is replaced. In a population it can fall, because each "
        "member continues from its own weights.",
    )


def _board(name: str, board: Board) -> Table:
    slots = sorted(board.state().slots.values(), key=lambda slot: -slot.score)
    rows = tuple((slot.name, round(100 * slot.score, 2), slot.epoch, slot.lease_count) for slot in slots)
    columns = ("slot", "score (%)", "epochs", "epochs started from it")
    return Table(name=f"{name}-board", title=f"{name}: the board", columns=columns, rows=rows)
