"""Time of a run: the phases of a step, and the waterfall from the device's peak to the measured time."""

from collections.abc import Mapping, Sequence

from distdl.core.format import Cell
from distdl.core.phases import EXPLAIN, PhaseTime, per_step
from distdl.perf.usage.explain import sentences
from distdl.perf.usage.waterfall import WORK, Waterfall, waterfall
from distdl.report.content import Axis, Figure, PlotLayer, Section, Table
from distdl.report.run_folder import Run

CATEGORIES = Axis(title="", scale="category")
UNACCOUNTED = "in no part"


def phases(runs: Sequence[Run]) -> tuple[Figure | Table, ...]:
    """Return a figure and a table of milliseconds per step by phase, without phases that took no time."""
    rows = [(run, phase) for run in runs for phase in _per_step(run)]
    measured = {phase.name for _, phase in rows if phase.step_s}
    rows = [(run, phase) for run, phase in rows if phase.name in measured]
    if not rows:
        return ()
    bars: dict[str, list[Cell]] = {
        "run": [run.label for run, _ in rows],
        "ms per step": [phase.step_s * 1e3 for _, phase in rows],
        "phase": [phase.name for _, phase in rows],
        "share (%)": [100 * phase.share for _, phase in rows],
    }
    layer = PlotLayer(mark="bars", data=bars, x="ms per step", y="run", series="phase", stack=True)
    figure = Figure(
        name="phases",
        title="Phases of a step",
        x=Axis(title="ms per step, rank 0"),
        y=CATEGORIES,
        layers=(layer,),
        caption="Exchange: communication that does not overlap with backward.",
    )
    several = len(runs) > 1
    table = Table(
        name="phases-table",
        title="Phases of a step",
        columns=(*(("run",) if several else ()), "phase", "ms per step", "share (%)", "description"),
        rows=tuple(
            (*((run.label,) if several else ()), phase.name, phase.step_s * 1e3, 100 * phase.share, EXPLAIN[phase.name])
            for run, phase in rows
        ),
    )
    return figure, table


def _per_step(run: Run) -> list[PhaseTime]:
    """Phase times of a run; for a run without a result, up to its last row."""
    times: Mapping[str, object] = {"train_s": 0.0} | dict(run.result)
    if "phases_s" not in times and run.train:
        last = run.train[-1]
        times = {"phases_s": last.get("phases_s"), "steps": last["step"], "train_s": last["time_s"]}
    return per_step(times) if times.get("phases_s") and times.get("steps") else []


def where_time_went(runs: Sequence[Run]) -> tuple[Section | None, list[str]]:
    """Return the section with the waterfalls, and a note for each run without one."""
    waterfalls: list[tuple[Run, Waterfall]] = []
    notes = []
    for run in runs:
        try:
            if run.result.get("steps"):
                waterfalls.append((run, waterfall(run.result, run.config)))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            notes.append(
                f"{run.label}: result.json does not explain where the time went ({type(error).__name__} {error})"
            )
    if not waterfalls:
        return None, notes
    texts = [_text(run, parts) for run, parts in waterfalls]
    if len(texts) > 1:
        texts = [f"{run.label}: {text}" for (run, _), text in zip(waterfalls, texts, strict=True)]
    figures = _single(waterfalls[0][1]) if len(runs) == 1 else _compared(waterfalls)
    return Section(title="Where the time went", text="\n".join(texts), parts=figures), notes


def _text(run: Run, parts: Waterfall) -> str:
    try:
        return " ".join(sentences(parts, run.result))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return f"The largest loss is {parts.largest}. Remedy: {parts.remedy}."


def waterfall_figure(parts: Waterfall, title: str = "From the peak of the device to the measured time") -> Figure:
    """Return a figure with a bar per part; each bar starts at the end of the bar above it."""
    data: dict[str, list[Cell]] = {
        "from (s)": [],
        "to (s)": [],
        "part": [],
        "kind": [],
        "share (%)": [],
        "description": [],
    }
    start = 0.0
    for part in parts.parts:
        kind = "work" if part.name in WORK else "loss"
        row = (start, start + part.seconds, part.name, kind, 100 * part.share, part.what)
        for column, cell in zip(data.values(), row, strict=True):
            column.append(cell)
        start += part.seconds
    rest_s = parts.unaccounted * parts.whole_s
    rest = (start, start + rest_s, "unaccounted", "unaccounted", 100 * parts.unaccounted, UNACCOUNTED)
    for column, cell in zip(data.values(), rest, strict=True):
        column.append(cell)
    layer = PlotLayer(mark="bars", data=data, x="to (s)", y="part", start="from (s)", series="kind")
    return Figure(
        name="waterfall",
        title=title,
        x=Axis(title="time (s)"),
        y=CATEGORIES,
        layers=(layer,),
        caption="Each bar is the time that this level adds to the level above.",
    )


def _single(parts: Waterfall) -> tuple[Figure | Table, ...]:
    rows = [(part.name, part.seconds, 100 * part.share, part.what) for part in parts.parts]
    rows.append(("unaccounted", parts.unaccounted * parts.whole_s, 100 * parts.unaccounted, UNACCOUNTED))
    columns = ("part", "seconds", "share (%)", "description")
    table = Table(name="waterfall-table", title="Parts of the total time", columns=columns, rows=tuple(rows))
    return waterfall_figure(parts), table


def _compared(waterfalls: Sequence[tuple[Run, Waterfall]]) -> tuple[Figure | Table, ...]:
    rows = [(run.label, part.name, 100 * part.share, part.seconds) for run, parts in waterfalls for part in parts.parts]
    names = ("run", "part", "share (%)", "seconds")
    data: dict[str, list[Cell]] = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    layer = PlotLayer(mark="bars", data=data, x="share (%)", y="run", series="part", stack=True)
    figure = Figure(
        name="waterfall",
        title="Parts of the total time of each run",
        x=Axis(title="share of the total time (%)"),
        y=CATEGORIES,
        layers=(layer,),
    )
    return figure, Table(name="waterfall-table", title="Parts of the total time", columns=names, rows=tuple(rows))
