"""One run's page, or several runs' side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

from distdl.core.format import Cell, duration, written
from distdl.report import configuration
from distdl.report import learning_curves as curves
from distdl.report import time_spent as spent
from distdl.report.content import Section, Table
from distdl.report.page import Fact, Page
from distdl.report.run_folder import Run
from distdl.report.schema import number
from distdl.report.telemetry import telemetry

CHANCE = "Single runs: a small difference between two of them may be chance. A study repeats them over seeds."
ALIKE = ("strategy", "ranks", "device", "global batch", "epochs")
"""Columns that are left out where all runs have the same."""


def page(runs: Sequence[Run]) -> Page:
    """The page of `runs`, in their order."""
    several = len(runs) > 1
    waterfall, missing = spent.where_time_went(runs)
    notes = [f"{run.label}: {note}" if several else note for run in runs for note in run.notes] + missing
    speed = Section(title="Speed", parts=(*curves.speed(runs), *spent.phases(runs)))
    sections = [
        Section(title="Runs side by side", text=CHANCE, parts=(side_by_side(runs),)) if several else None,
        curves.learning(runs),
        speed if speed.parts else None,
        waterfall,
        telemetry(runs),
        configuration.compared(runs) if several else configuration.configuration(runs[0]),
        configuration.machine(runs),
    ]
    kept = [section for section in sections if section and (section.parts or section.text)]
    if several:
        title, subtitle = f"{len(runs)} runs", ", ".join(run.label for run in runs)
        return Page(title=title, subtitle=subtitle, facts=tuple(_best(runs)), notes=tuple(notes), sections=tuple(kept))
    run = runs[0]
    name = str(run.result.get("name") or run.config.get("name") or run.label)
    return Page(
        title=name,
        subtitle=subtitle_of(run),
        status=run.status,
        facts=tuple(facts(run)),
        notes=tuple(notes),
        sections=tuple(kept),
    )


def subtitle_of(run: Run) -> str:
    """What was trained on what, in a line."""
    found, config = run.result, run.config
    model, data = _table(config, "model").get("name"), _table(config, "data").get("name")
    ranks = found.get("world_size")
    words = [
        f"{model} on {data}" if model and data else "",
        run.exchange,
        f"{ranks} rank{'s' * (ranks != 1)}" if isinstance(ranks, int) else "",
        str(found.get("device") or ""),
        f"global batch {written(found.get('global_batch'))}" if found.get("global_batch") else "",
        str(run.environment.get("started") or "").replace("T", " ")[:16],
    ]
    return " · ".join(filter(None, words))


def facts(run: Run) -> Iterator[Fact]:
    """The figures that a run is known by: those that it has."""
    found = run.result
    split, row = _last_evaluation(run)
    accuracy, loss = number(row.get("accuracy")), number(row.get("loss"))
    if accuracy is not None:
        yield Fact(f"{split} accuracy", f"{accuracy:.2%}", "" if loss is None else f"loss {loss:.4f}")
    rate = number(found.get("images_per_s"))
    if rate is not None:
        yield Fact("images/s", f"{rate:,.0f}", "in training")
    train_s, held_s = number(found.get("train_s")), number(found.get("held_s"))
    if train_s is None and run.train:
        train_s = number(run.train[-1]["time_s"])
    if train_s is not None:
        yield Fact("training", duration(train_s), f"{duration(held_s)} in all" if held_s else "")
    steps = found.get("steps") or (run.train[-1]["step"] if run.train else None)
    if isinstance(steps, int):
        epochs = number(found.get("epochs")) or (number(run.train[-1]["epoch"]) if run.train else None)
        yield Fact("steps", f"{steps:,}", f"{epochs:.4g} epochs" if epochs else "")
    used = _table(found, "utilisation")
    mfu = number(used.get("mfu"))
    if mfu is not None:
        yield Fact("MFU", f"{mfu:.1%}", f"of {used.get('device')}'s dense peak")
    energy = number(found.get("energy_j"))
    if energy is not None:
        each = number(found.get("energy_j_per_image"))
        yield Fact("energy", f"{written(energy / 1e3)} kJ", f"{written(each)} J an image" if each else "")
    if number(found.get("cost")) is not None:
        yield Fact("cost", written(found["cost"]), "at the price given for a device's hour")
    idle = number(found.get("idle_share"))
    if idle is not None:
        yield Fact("idle", f"{idle:.1%}", f"of the {str(found.get('idle_of')).upper()}'s time")


def side_by_side(runs: Sequence[Run]) -> Table:
    """A row for each run, without the columns that say nothing."""
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
        if cells[name] - {None, ""} and not (name in ALIKE and len(cells[name]) == 1)
    ]
    return Table(
        name="runs",
        title="",
        columns=tuple(names[index] for index in used),
        rows=tuple(tuple(row[index] for index in used) for row in rows),
    )


def _row(run: Run) -> tuple[Cell, ...]:
    found = run.result
    _, row = _last_evaluation(run)
    accuracy, energy = number(row.get("accuracy")), number(found.get("energy_j"))
    mfu = number(_table(found, "utilisation").get("mfu"))
    return (
        run.label,
        run.status,
        None if accuracy is None else 100 * accuracy,
        number(row.get("loss")),
        number(found.get("images_per_s")),
        number(found.get("train_s")),
        number(found.get("held_s")),
        number(found.get("epochs")),
        run.exchange,
        found.get("world_size") if isinstance(found.get("world_size"), int) else None,
        str(found.get("device") or ""),
        number(found.get("global_batch")),
        None if mfu is None else 100 * mfu,
        None if energy is None else energy / 1e3,
        number(found.get("cost")),
    )


def _best(runs: Sequence[Run]) -> Iterator[Fact]:
    """Which run has the most of what is wanted."""
    measures: tuple[tuple[str, Any, Any], ...] = (
        ("highest accuracy", lambda run: number(_last_evaluation(run)[1].get("accuracy")), lambda v: f"{v:.2%}"),
        ("most images/s", lambda run: number(run.result.get("images_per_s")), lambda v: f"{v:,.0f}"),
        ("shortest training", lambda run: number(run.result.get("train_s")), duration),
    )
    for label, value, text in measures:
        known = [(found, run.label) for run in runs if (found := value(run)) is not None]
        if known:
            best, name = (min if label.startswith("shortest") else max)(known, key=lambda pair: pair[0])
            yield Fact(label, text(best), name)


def _last_evaluation(run: Run) -> tuple[str, dict[str, Any]]:
    """The split and figures of the run's end, or of its last evaluation so far."""
    for split in ("test", "validation"):
        ended = run.result.get(split)
        if isinstance(ended, dict) and number(ended.get("accuracy")) is not None:
            return split, ended
    rows = [(row["step"], split, row) for split, own in run.evaluations.items() for row in own]
    if not rows:
        return "test", {}
    _, split, row = max(rows, key=lambda one: (one[0], one[1]))
    return split, row


def _table(found: Any, key: str) -> dict[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}
