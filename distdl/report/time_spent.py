"""Where a run's time went: the phases of a step, and the waterfall from the device's peak to what was done."""

from collections.abc import Mapping, Sequence
from typing import Any

from distdl.core.format import Cell
from distdl.core.phases import EXPLAIN, PHASES, REST
from distdl.perf.usage.explain import sentences
from distdl.perf.usage.waterfall import WORK, Waterfall, waterfall
from distdl.report.content import Axis, Figure, Layer, Section, Table
from distdl.report.run_folder import Run
from distdl.report.schema import number

CATEGORIES = Axis(title="", scale="category")


def phases(runs: Sequence[Run]) -> tuple[Figure | Table, ...]:
    """Milliseconds of a step by phase: a bar for each run, and their table. Phases that took no time are left out."""
    rows = [(run, name, ms, share) for run in runs for name, ms, share in _step_ms(run)]
    taken = {name for _, name, ms, _ in rows if ms}
    rows = [row for row in rows if row[1] in taken]
    if not rows:
        return ()
    bars: dict[str, list[Cell]] = {
        "run": [run.label for run, *_ in rows],
        "ms a step": [ms for _, _, ms, _ in rows],
        "phase": [name for _, name, *_ in rows],
        "share (%)": [100 * share for *_, share in rows],
    }
    layer = Layer(mark="bars", data=bars, x="ms a step", y="run", series="phase", stack=True)
    figure = Figure(
        name="phases",
        title="A step's phases",
        x=Axis(title="ms a step, rank 0"),
        y=CATEGORIES,
        layers=(layer,),
        caption="Exchange is what backward does not hide of it.",
    )
    several = len(runs) > 1
    table = Table(
        name="phases-table",
        title="A step's phases",
        columns=(*(("run",) if several else ()), "phase", "ms a step", "share (%)", "what it is"),
        rows=tuple(
            (*((run.label,) if several else ()), name, ms, 100 * share, EXPLAIN.get(name, REST))
            for run, name, ms, share in rows
        ),
    )
    return figure, table


def _step_ms(run: Run) -> list[tuple[str, float, float]]:
    """Phase, milliseconds a step, share. Of a run that has not ended, from its last row."""
    totals, steps, whole_s = run.result.get("phases_s"), run.result.get("steps"), number(run.result.get("train_s"))
    if not isinstance(totals, dict) and run.train:
        last = run.train[-1]
        totals, steps, whole_s = last.get("phases_s"), last["step"], number(last["time_s"])
    if not isinstance(totals, dict) or not number(steps):
        return []
    seconds = {name: number(totals.get(name)) or 0.0 for name in PHASES}
    whole_s = max(whole_s or 0.0, sum(seconds.values()))
    seconds["rest"] = whole_s - sum(seconds.values())
    return [(name, one / steps * 1e3, one / whole_s if whole_s else 0.0) for name, one in seconds.items()]


def where_time_went(runs: Sequence[Run]) -> tuple[Section | None, list[str]]:
    """The waterfalls' section, and why runs are missing from it."""
    found: list[tuple[Run, Waterfall]] = []
    notes = []
    for run in runs:
        try:
            if run.result.get("steps"):
                found.append((run, waterfall(run.result, run.config)))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            notes.append(
                f"{run.label}: result.json does not explain where the time went ({type(error).__name__} {error})"
            )
    if not found:
        return None, notes
    text = _said(*found[0]) if len(found) == 1 else "\n".join(f"{run.label}: {_said(run, one)}" for run, one in found)
    title = "Where the time went"
    return Section(title=title, text=text, parts=(_one(found[0][1]) if len(runs) == 1 else _side(found))), notes


def _said(run: Run, one: Waterfall) -> str:
    try:
        return " ".join(sentences(one, run.result))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return f"The largest loss is {one.largest}. What would mend it: {one.remedy}."


def _one(found: Waterfall) -> tuple[Figure | Table, ...]:
    """Each bar begins where the one above it ends."""
    data: dict[str, list[Cell]] = {
        "from (s)": [],
        "to (s)": [],
        "part": [],
        "is": [],
        "share (%)": [],
        "what it is": [],
    }
    start = 0.0
    for part in found.parts:
        kind = "work" if part.name in WORK else "loss"
        row = (start, start + part.seconds, part.name, kind, 100 * part.share, part.what)
        for column, cell in zip(data.values(), row, strict=True):
            column.append(cell)
        start += part.seconds
    layer = Layer(mark="bars", data=data, x="to (s)", y="part", start="from (s)", series="is")
    figure = Figure(
        name="waterfall",
        title="From what the device could do to what the run did",
        x=Axis(title="time held (s)"),
        y=CATEGORIES,
        layers=(layer,),
        caption="Each part is the time that its level adds to the one above.",
    )
    rows = [(part.name, part.seconds, 100 * part.share, part.what) for part in found.parts]
    rows.append(("unaccounted", found.unaccounted * found.whole_s, 100 * found.unaccounted, "in no part"))
    columns = ("part", "seconds", "share (%)", "what it is")
    return figure, Table(name="waterfall-table", title="Parts of the whole", columns=columns, rows=tuple(rows))


def _side(found: Sequence[tuple[Run, Waterfall]]) -> tuple[Figure | Table, ...]:
    rows = [(run.label, part.name, 100 * part.share, part.seconds) for run, one in found for part in one.parts]
    names = ("run", "part", "share (%)", "seconds")
    data: Mapping[str, Any] = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    layer = Layer(mark="bars", data=data, x="share (%)", y="run", series="part", stack=True)
    figure = Figure(
        name="waterfall",
        title="Parts of each run's whole time",
        x=Axis(title="share of the time held (%)"),
        y=CATEGORIES,
        layers=(layer,),
    )
    return figure, Table(name="waterfall-table", title="Parts of the whole", columns=names, rows=tuple(rows))
