"""Curves from metrics.jsonl: accuracy, loss, learning rate, throughput, and the phases of a step over time."""

import itertools
from collections.abc import Iterator, Sequence

from distdl.core.format import is_number
from distdl.core.phases import PHASES
from distdl.core.schema import number
from distdl.report.content import Axis, Columns, Figure, PlotLayer, Section
from distdl.report.run_folder import Run, RunRow

EPOCH = Axis(title="epoch")
LOG_RATIO = 20
"""Ratio of the largest to the smallest loss above which its axis is logarithmic."""
INTERVALS = 150
"""Number of intervals of a run over which phase times are averaged."""


def learning(runs: Sequence[Run]) -> Section:
    """Return the section with accuracy by epoch and by time, loss and learning rate."""
    accuracy = _evaluations(runs, "accuracy", 100.0)
    figures = []
    if accuracy["epoch"]:
        y = Axis(title="accuracy (%)")
        data = {name: accuracy[name] for name in ("epoch", "accuracy (%)", "curve", "step")}
        figures.append(_figure("accuracy", "Accuracy by epoch", EPOCH, y, _marked(data, "epoch", "accuracy (%)")))
        data = {name: accuracy[name] for name in ("training (s)", "accuracy (%)", "curve", "step")}
        x, layers = Axis(title="training time (s)"), _marked(data, "training (s)", "accuracy (%)")
        figures.append(_figure("accuracy-time", "Accuracy by time", x, y, layers))
    figures += _loss(runs)
    rates = _training(runs, "lr", "learning rate")
    if rates["epoch"]:
        layer = PlotLayer(mark="line", data=rates, x="epoch", y="learning rate", series="curve")
        figures.append(_figure("learning-rate", "Learning rate", EPOCH, Axis(title="learning rate"), (layer,)))
    return Section(title="Learning", parts=tuple(figures))


def speed(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield images per second and, for a single run, the phases of a step over time."""
    rates = _training(runs, "images_per_s", "images/s")
    if rates["epoch"]:
        layer = PlotLayer(mark="line", data=rates, x="epoch", y="images/s", series="curve")
        yield _figure("throughput", "Throughput", EPOCH, Axis(title="images/s"), (layer,))
    if len(runs) == 1:
        data = _phases(runs[0].train)
        if data["epoch"]:
            layer = PlotLayer(mark="line", data=data, x="epoch", y="ms per step", series="phase")
            yield _figure(
                "phases-time",
                "Phases of a step over time",
                EPOCH,
                Axis(title="ms per step"),
                (layer,),
                "Means over intervals of the training.",
            )


def _figure(name: str, title: str, x: Axis, y: Axis, layers: tuple[PlotLayer, ...], caption: str = "") -> Figure:
    return Figure(name=name, title=title, x=x, y=y, layers=layers, caption=caption)


def _marked(data: Columns, x: str, y: str) -> tuple[PlotLayer, PlotLayer]:
    line = PlotLayer(mark="line", data=data, x=x, y=y, series="curve")
    return line, PlotLayer(mark="points", data=data, x=x, y=y, series="curve")


def _loss(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield one figure with training and evaluation loss; for several runs, which differ by color, one for each."""
    training, evaluated = _training(runs, "loss", "loss"), _evaluations(runs, "loss", 1.0)
    evaluated.pop("training (s)")
    if len(runs) == 1:
        training["curve"] = ["training"] * len(training["curve"])
    line = (PlotLayer(mark="line", data=training, x="epoch", y="loss", series="curve"),) if training["epoch"] else ()
    marked = _marked(evaluated, "epoch", "loss") if evaluated["epoch"] else ()
    if len(runs) == 1:
        groups = [("loss", "Loss", line + marked)]
    else:
        groups = [("loss", "Training loss", line), ("loss-evaluated", "Evaluation loss", marked)]
    for name, title, layers in groups:
        values = [value for layer in layers for value in layer.data["loss"] if is_number(value)]
        if values:
            log = min(values) > 0 and max(values) / min(values) > LOG_RATIO
            yield _figure(name, title, EPOCH, Axis(title="loss", scale="log" if log else "linear"), layers)


def _training(runs: Sequence[Run], field: str, title: str) -> Columns:
    columns: Columns = {"epoch": [], title: [], "curve": [], "step": []}
    for run in runs:
        columns["epoch"] += [row["epoch"] for row in run.train]
        columns[title] += [number(row.get(field)) for row in run.train]
        columns["curve"] += [run.label] * len(run.train)
        columns["step"] += [row["step"] for row in run.train]
    return columns


def _evaluations(runs: Sequence[Run], field: str, factor: float) -> Columns:
    splits = {split for run in runs for split in run.evaluations}
    title = "accuracy (%)" if field == "accuracy" else field
    columns: Columns = {"epoch": [], "training (s)": [], title: [], "curve": [], "step": []}
    for run in runs:
        for split, rows in run.evaluations.items():
            curve = split if len(runs) == 1 else run.label if len(splits) == 1 else f"{run.label}, {split}"
            for row in rows:
                value = number(row.get(field))
                cells = (row["epoch"], row["time_s"], None if value is None else value * factor, curve, row["step"])
                for column, cell in zip(columns.values(), cells, strict=True):
                    column.append(cell)
    return columns


def _phases(rows: Sequence[RunRow]) -> Columns:
    """Milliseconds of each phase per step, averaged over intervals. The totals in the rows restart at a resume."""
    columns: Columns = {"epoch": [], "ms per step": [], "phase": []}
    rows = [row for row in rows if isinstance(row.get("phases_s"), dict)]
    if len(rows) > INTERVALS:
        rows = [rows[i * (len(rows) - 1) // INTERVALS] for i in range(INTERVALS + 1)]
    names = [name for name in PHASES if any(_total(row, name) for row in rows)]
    for previous, row in itertools.pairwise(rows):
        steps = row["step"] - previous["step"]
        times = {name: _total(row, name) - _total(previous, name) for name in names}
        if steps <= 0 or sum(times.values()) < 0:
            continue
        for name, seconds in times.items():
            columns["epoch"].append(row["epoch"])
            columns["ms per step"].append(max(seconds, 0.0) / steps * 1e3)
            columns["phase"].append(name)
    return columns


def _total(row: RunRow, phase: str) -> float:
    return number(row["phases_s"].get(phase)) or 0.0
