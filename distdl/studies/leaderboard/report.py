"""What the boards show: the tops of the three attempts beside document 000's, what each took, and each board's tree."""

from collections.abc import Mapping
from typing import Any

from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.leaderboard import history, tree
from distdl.studies.leaderboard.board import Board
from distdl.studies.leaderboard.trials import DOCUMENT_ACCURACY, Settings, board_of, boards

Tops = dict[tuple[str, str], list[Mapping[str, Any]]]


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """The attempts side by side, what they took, and a section for each board that there is."""
    tops: Tops = {}
    for name, labels in boards(settings):
        done = outcomes.get(f"{name}-top")
        if done and done.completed:
            tops.setdefault((labels["rule"], labels["attempt"]), []).append(done.result)
    sections = [Section(title="Three attempts", text=_ABOUT, parts=(*_sentences(settings, tops), _attempts(tops)))]
    drawn = []
    for name, labels in boards(settings):
        one = next((outcome for key, outcome in outcomes.items() if key.startswith(f"{name}-")), None)
        if one is not None and (board := Board(board_of(one.folder, {"board": name}))).folder.is_dir():
            drawn.append((name, labels, board, board.rows()))
    if drawn:
        rising = [(name, *history.best_so_far(rows)) for name, _, _, rows in drawn]
        sections.append(Section(title="Time", parts=(_rise(rising), _processes(settings, outcomes))))
    for name, labels, board, rows in drawn:
        state = board.state()
        if state.slots:
            title = f"{labels['attempt']}, {labels['rule']}, seed {labels['seed']}"
            parts = (_board(name, board), tree.table(name, rows, state), tree.figure(name, rows, state))
            sections.append(Section(title=title, parts=parts))
    return sections


_ABOUT = (
    "The score that decides on a board is the accuracy on the validation set; the top of each board is then tested, "
    "once. Document 000 scored and chose on its test data."
)


def _accuracy(results: list[Mapping[str, Any]]) -> Spread:
    return spread([100 * result["test"]["accuracy"] for result in results])


def _sentences(settings: Settings, tops: Tops) -> list[Finding]:
    reached = {
        attempt: _accuracy(tops["ratchet", attempt]) for attempt in settings.attempts if ("ratchet", attempt) in tops
    }
    said = [
        Finding(
            text=f"{attempt}: the top of the board reaches {_told(one)} of the test; the document's reached "
            f"{100 * DOCUMENT_ACCURACY[attempt]:.2f} %, with AlexNet on data of its own.",
            n=one.n,
        )
        for attempt, one in reached.items()
    ]
    for worse, better in (("scratch", "frozen"), ("frozen", "fine-tuned")):
        if worse in reached and better in reached:
            low, high = reached[worse], reached[better]
            sure = "for certain" if high.beats(low) else _unsure(low)
            by = high.mean - low.mean
            verdict = f"{better} is {'' if by > 0 else 'not '}better than {worse}, by {by:.1f} points"
            said.append(Finding(text=f"{verdict} ({sure}).", n=low.n, holds=by > 0))
    for attempt, one in reached.items():
        if ("population", attempt) in tops:
            other = _accuracy(tops["population", attempt])
            sure = "for certain" if one.beats(other) or other.beats(one) else _unsure(one)
            both = f"the ratchet reaches {_told(one)}, a population trained for as many epochs {_told(other)}"
            text = f"{attempt}: {both} ({sure})."
            said.append(Finding(text=text, n=one.n))
    return said


def _told(one: Spread) -> str:
    return f"{one.mean:.2f} %" + (f" ({one.low:.2f} to {one.high:.2f})" if one.n > 1 else "")


def _unsure(one: Spread) -> str:
    return "one run each: no winner can be told" if one.n < 2 else "which may be chance"


def _attempts(tops: Tops) -> Table:
    columns = (
        *("attempt", "rule", "n", "document (%)", "test (%)", "score (%)", "epochs", "kept", "cut", "slices"),
        *("at once", "compute (s)", "epoch (s)"),
    )
    rows = []
    for (rule, attempt), results in tops.items():
        mean = {key: sum(result[key] for result in results) / len(results) for key in _SUMMED}
        document = 100 * DOCUMENT_ACCURACY[attempt] if rule == "ratchet" else None
        tested = round(_accuracy(results).mean, 2)
        score = round(100 * mean.pop("score"), 2)
        rows.append(
            (attempt, rule, len(results), document, tested, score, *(round(value, 2) for value in mean.values()))
        )
    note = (
        "Means over n seeds. Kept: epochs that were published; cut: by the end of their process; at once: the most "
        "processes at the board. Compute: seconds for which processes held a device, start-up and lost slices included."
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
    note = "Idle: share of its time in which the device did nothing, measured; energy where the device tells it."
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
        caption="A ratchet's best never falls; a population's may, since each member goes on from what it has.",
    )


def _board(name: str, board: Board) -> Table:
    slots = sorted(board.state().slots.values(), key=lambda slot: -slot.score)
    rows = tuple((slot.name, round(100 * slot.score, 2), slot.epoch, slot.worked) for slot in slots)
    columns = ("slot", "score (%)", "epochs", "worked on")
    return Table(name=f"{name}-board", title=f"{name}: the board", columns=columns, rows=rows)
