"""Results of study `leaderboard`: the three attempts next to the published ones, their cost, and each board's tree."""

from collections.abc import Mapping
from typing import Any

from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.report.sentences import certainty
from distdl.studies.base import Outcome
from distdl.studies.leaderboard import history, tree
from distdl.studies.leaderboard.board import Board
from distdl.studies.leaderboard.trials import PUBLISHED_ACCURACY, Settings, board_of, boards

Tops = dict[tuple[str, str], list[Mapping[str, Any]]]


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """The attempts compared, their cost, and a section for each board."""
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
        rising = [(name, *history.best_so_far(rows)) for name, _, _, rows in with_events]
        sections.append(Section(title="Time", parts=(_rise(rising), _processes(settings, outcomes))))
    for name, labels, board, rows in with_events:
        state = board.state()
        if state.slots:
            title = f"{labels['attempt']}, {labels['rule']}, seed {labels['seed']}"
            parts = (_board(name, board), tree.table(name, rows, state), tree.figure(name, rows, state))
            sections.append(Section(title=title, parts=parts))
    return sections


_ABOUT = (
    "The score on a board is the accuracy on the validation set; the best slot of each board is then tested, once. The "
    "published experiment scored and selected on its test data."
)


def _accuracy(results: list[Mapping[str, Any]]) -> Spread:
    return spread([100 * result["test"]["accuracy"] for result in results])


def _sentences(settings: Settings, tops: Tops) -> list[Finding]:
    reached = {
        attempt: _accuracy(tops["ratchet", attempt]) for attempt in settings.attempts if ("ratchet", attempt) in tops
    }
    sentences = [
        Finding(
            text=f"{attempt}: the best slot of the board reaches {_interval(accuracy)} on the test; the published one "
            f"reached {100 * PUBLISHED_ACCURACY[attempt]:.2f} %, with AlexNet on other data.",
            n=accuracy.n,
        )
        for attempt, accuracy in reached.items()
    ]
    for worse, better in (("scratch", "frozen"), ("frozen", "fine-tuned")):
        if worse in reached and better in reached:
            low, high = reached[worse], reached[better]
            by = high.mean - low.mean
            verdict = f"{better} is {'' if by > 0 else 'not '}better than {worse}, by {by:.1f} points"
            sentences.append(Finding(text=f"{verdict} ({certainty(high, low)}).", n=low.n, holds=by > 0))
    for attempt, accuracy in reached.items():
        if ("population", attempt) in tops:
            other = _accuracy(tops["population", attempt])
            both = f"replacing the worst slot reaches {_interval(accuracy)}, population-based training with the same "
            text = f"{attempt}: {both}number of epochs {_interval(other)} ({certainty(accuracy, other)})."
            sentences.append(Finding(text=text, n=accuracy.n))
    return sentences


def _interval(accuracy: Spread) -> str:
    """ "57.78 % (55.10 to 60.46)"."""
    ends = f" ({accuracy.low:.2f} to {accuracy.high:.2f})" if accuracy.n > 1 else ""
    return f"{accuracy.mean:.2f} %{ends}"


def _attempts(tops: Tops) -> Table:
    columns = (
        *("attempt", "rule", "n", "published (%)", "test (%)", "score (%)", "epochs", "kept", "cut", "slices"),
        *("at once", "compute (s)", "epoch (s)"),
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
        "Means over n seeds. Kept: epochs that were published; cut: by the end of their process; at once: largest "
        "number of processes at the board. Compute: seconds for which processes held a device, with "
        "start-up and lost slices."
    )
    return Table(name="attempts", title="Attempts", columns=columns, rows=tuple(rows), note=note)


_SUMMED = ("score", "epochs", "published", "cut", "slices", "at_once", "compute_s", "epoch_s")


def _processes(settings: Settings, outcomes: Mapping[str, Outcome]) -> Table:
    columns = ("process", "slices", "published", "dropped", "cut", "device", "device time (s)", "idle", "energy (J)")
    keys = ("slices", "published", "dropped", "cut", "device", "device_seconds", "idle_share", "energy_j")
    rows = []
    for name, outcome in outcomes.items():
        if outcome.trial.labels.get("part") != "top":
            values = [outcome.result.get(key) for key in keys]
            rows.append((name, *(round(value, 3) if isinstance(value, float) else value for value in values)))
    note = "Idle: share of its time in which the device did nothing, measured; energy if the device reports it."
    return Table(name="processes", title="What each process did", columns=columns, rows=tuple(rows), note=note)


def _rise(rising: list[tuple[str, list[float], list[float]]]) -> Figure:
    data: dict[str, list[Any]] = {"x": [], "y": [], "board": []}
    for name, seconds, best in rising:
        data["x"] += seconds
        data["y"] += [100 * score for score in best]
        data["board"] += [name] * len(seconds)
    return Figure(
        name="best",
        title="The best on each board",
        x=Axis(title="device time, summed over processes (s)"),
        y=Axis(title="best score on the board (%)"),
        layers=(Layer(mark="line", data=data, series="board"),),
        caption="The best never falls if the worst slot is replaced; in a population it may, because each member "
        "continues from its own weights.",
    )


def _board(name: str, board: Board) -> Table:
    slots = sorted(board.state().slots.values(), key=lambda slot: -slot.score)
    rows = tuple((slot.name, round(100 * slot.score, 2), slot.epoch, slot.worked) for slot in slots)
    columns = ("slot", "score (%)", "epochs", "worked on")
    return Table(name=f"{name}-board", title=f"{name}: the board", columns=columns, rows=rows)
