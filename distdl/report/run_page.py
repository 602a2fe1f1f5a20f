"""The page of one run, or of several runs side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distdl.core.format import Cell, duration, written
from distdl.core.schema import number
from distdl.report import configuration
from distdl.report import learning_curves as curves
from distdl.report import time_spent as spent
from distdl.report.content import Section, Table
from distdl.report.page import Fact, Page
from distdl.report.run_folder import Run
from distdl.report.telemetry import telemetry

SINGLE_RUNS = (
    "Each run is a single repetition, so small differences may be due to chance. A study repeats each training."
)
CONSTANT = ("strategy", "ranks", "device", "global batch", "epochs")
"""Columns that are omitted if all runs have the same value."""


def page(runs: Sequence[Run]) -> Page:
    """Build the page of one run, or of several runs in the given order."""
    several = len(runs) > 1
    waterfall, missing_notes = spent.where_time_went(runs)
    notes = [f"{run.label}: {note}" if several else note for run in runs for note in run.notes] + missing_notes
    speed = Section(title="Speed", parts=(*curves.speed(runs), *spent.phases(runs)))
    sections = [
        Section(title="Comparison of the runs", text=SINGLE_RUNS, parts=(side_by_side(runs),)) if several else None,
        curves.learning(runs),
        speed if speed.parts else None,
        waterfall,
        telemetry(runs),
        configuration.compared(runs) if several else configuration.configuration(runs[0]),
        configuration.machine(runs),
    ]
    content = tuple(section for section in sections if section and (section.parts or section.text))
    if several:
        title, subtitle = f"{len(runs)} runs", ", ".join(run.label for run in runs)
        return Page(title=title, subtitle=subtitle, facts=tuple(_best(runs)), notes=tuple(notes), sections=content)
    run = runs[0]
    name = str(run.result.get("name") or run.config.get("name") or run.label)
    return Page(
        title=name,
        subtitle=subtitle_of(run),
        status=run.status,
        facts=tuple(facts(run)),
        notes=tuple(notes),
        sections=content,
    )


def subtitle_of(run: Run) -> str:
    """One line: model, data set, strategy, ranks, device, batch and start."""
    result, config = run.result, run.config
    model, data = _table(config, "model").get("name"), _table(config, "data").get("name")
    ranks = result.get("world_size")
    parts = [
        f"{model} on {data}" if model and data else "",
        run.exchange,
        f"{ranks} rank{'s' * (ranks != 1)}" if isinstance(ranks, int) else "",
        str(result.get("device") or ""),
        f"global batch {written(result.get('global_batch'))}" if result.get("global_batch") else "",
        str(run.environment.get("started") or "").replace("T", " ")[:16],
    ]
    return " · ".join(filter(None, parts))


def facts(run: Run) -> Iterator[Fact]:
    """Yield the main values of a run, as far as they are known."""
    result = run.result
    split, row = _last_evaluation(run)
    accuracy, loss = number(row.get("accuracy")), number(row.get("loss"))
    if accuracy is not None:
        yield Fact(f"{split} accuracy", f"{accuracy:.2%}", "" if loss is None else f"loss {loss:.4f}")
    images_per_s = number(result.get("images_per_s"))
    if images_per_s is not None:
        yield Fact("images/s", f"{images_per_s:,.0f}", "in training")
    train_s, held_s = number(result.get("train_s")), number(result.get("held_s"))
    if train_s is None and run.train:
        train_s = number(run.train[-1]["time_s"])
    if train_s is not None:
        yield Fact("training", duration(train_s), f"{duration(held_s)} in total" if held_s else "")
    steps = result.get("steps") or (run.train[-1]["step"] if run.train else None)
    if isinstance(steps, int):
        epochs = number(result.get("epochs")) or (number(run.train[-1]["epoch"]) if run.train else None)
        yield Fact("steps", f"{steps:,}", f"{epochs:.4g} epochs" if epochs else "")
    used = _table(result, "utilisation")
    mfu = number(used.get("mfu"))
    if mfu is not None:
        yield Fact("MFU", f"{mfu:.1%}", f"of the dense peak of {used.get('device')}")
    energy = number(result.get("energy_j"))
    if energy is not None:
        per_image = number(result.get("energy_j_per_image"))
        yield Fact("energy", f"{written(energy / 1e3)} kJ", f"{written(per_image)} J per image" if per_image else "")
    if number(result.get("cost")) is not None:
        yield Fact("cost", written(result["cost"]), "at the given price per device hour")
    idle = number(result.get("idle_share"))
    if idle is not None:
        yield Fact("idle", f"{idle:.1%}", f"of the {str(result.get('idle_of')).upper()} time")


def side_by_side(runs: Sequence[Run]) -> Table:
    """Return a table with a row per run, without columns that are empty or constant."""
    names = (
        *(
            "run",
            "status",
            "accuracy (%)",
            "loss",
            "images/s",
            "training (s)",
            "held (s)",
            "epochs",
            "strategy",
            "ranks",
        ),
        *("device", "global batch", "MFU (%)", "energy (kJ)", "cost"),
    )
    rows = [_row(run) for run in runs]
    cells = {name: {row[index] for row in rows} for index, name in enumerate(names)}
    used = [
        index
        for index, name in enumerate(names)
        if cells[name] - {None, ""} and not (name in CONSTANT and len(cells[name]) == 1)
    ]
    return Table(
        name="runs",
        title="",
        columns=tuple(names[index] for index in used),
        rows=tuple(tuple(row[index] for index in used) for row in rows),
    )


def _row(run: Run) -> tuple[Cell, ...]:
    result = run.result
    _, row = _last_evaluation(run)
    accuracy, energy = number(row.get("accuracy")), number(result.get("energy_j"))
    mfu = number(_table(result, "utilisation").get("mfu"))
    return (
        run.label,
        run.status,
        None if accuracy is None else 100 * accuracy,
        number(row.get("loss")),
        number(result.get("images_per_s")),
        number(result.get("train_s")),
        number(result.get("held_s")),
        number(result.get("epochs")),
        run.exchange,
        result.get("world_size") if isinstance(result.get("world_size"), int) else None,
        str(result.get("device") or ""),
        number(result.get("global_batch")),
        None if mfu is None else 100 * mfu,
        None if energy is None else energy / 1e3,
        number(result.get("cost")),
    )


def _best(runs: Sequence[Run]) -> Iterator[Fact]:
    """Yield the best run by accuracy, speed and time."""
    measures: tuple[tuple[str, Any, Any], ...] = (
        ("highest accuracy", lambda run: number(_last_evaluation(run)[1].get("accuracy")), lambda v: f"{v:.2%}"),
        ("most images/s", lambda run: number(run.result.get("images_per_s")), lambda v: f"{v:,.0f}"),
        ("shortest training", lambda run: number(run.result.get("train_s")), duration),
    )
    for label, value, text in measures:
        values = [(measured, run.label) for run in runs if (measured := value(run)) is not None]
        if values:
            best, name = (min if label.startswith("shortest") else max)(values, key=lambda pair: pair[0])
            yield Fact(label, text(best), name)


def _last_evaluation(run: Run) -> tuple[str, dict[str, Any]]:
    """Split and metrics of the final evaluation, or of the last one so far."""
    for split in ("test", "validation"):
        metrics = run.result.get(split)
        if isinstance(metrics, dict) and number(metrics.get("accuracy")) is not None:
            return split, metrics
    rows = [(row["step"], split, row) for split, split_rows in run.evaluations.items() for row in split_rows]
    if not rows:
        return "test", {}
    _, split, row = max(rows, key=lambda entry: entry[:2])
    return split, row


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}
