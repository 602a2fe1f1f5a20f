"""Results of study `optimus`: speed, and time and cost to the target by servers and workers."""

from collections.abc import Sequence

import numpy as np

from distdl.core.format import Cell
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.optimus import PUBLISHED_BATCH, PUBLISHED_SYNC
from distdl.perf.speed.speed_fit import SpeedFit
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.optimus import logs
from distdl.studies.optimus.scaling import Plan, Scale, Steps, last_paying_plan, measured, plans, published
from distdl.studies.optimus.trials import OptimusSettings

Epochs = tuple[float, float, float]
UNITS = (("hours", 1.0), ("minutes", 60.0), ("seconds", 3600.0))


def times(settings: OptimusSettings, scale: Scale, outcomes: Sequence[Outcome], epochs: Epochs | None) -> list[Section]:
    """Return a section on speed, and one on time and cost for each speed model; without epochs only the first."""
    result = measured(logs.ps_folders(outcomes), settings.speed)
    sections, models = [], {}
    if isinstance(result, str):
        sections.append(Section(title="Speed", text=f"No speed model of measured runs: {result}."))
    else:
        data, fits = result
        best = min(fits, key=lambda fit: fit.held_out_mape)
        sections.append(_speed(data, fits, best))
        models["measured"] = (
            lambda points: best.predict(data.placements.at(points)),
            f"the measured runs ({best.requested})",
        )
    models["published"] = (published, "Optimus' published coefficients")
    if epochs is None:
        text = "The time to the target cannot be predicted, because the number of epochs to it is unknown."
        return [*sections, Section(title="Time to the target", text=text)]
    return [*sections, *(_section(settings, scale, epochs, name, *model) for name, model in models.items())]


def _speed(data: Measurements, fits: Sequence[SpeedFit], best: SpeedFit) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for fit in fits:
        for name, value in fit.coefficients.items():
            rows.append((fit.requested, name, value, *map(float, fit.intervals[name]), fit.held_out_mape * 100))
    for name, value in PUBLISHED_SYNC.items():
        rows.append((f"published, batch {PUBLISHED_BATCH}", name, value, None, None, None))
    table = Table(
        name="speed-models",
        title="Speed models",
        columns=("model", "term", "seconds", "from", "to", "held-out error (%)"),
        rows=tuple(rows),
        note="Optimus, Eq. 4: t0 M / w + t1 + t2 w / p + t3 w + t4 p. Held-out error: mean error of the step time of a "
        "configuration that is predicted by a fit to the others.",
    )
    layers = []
    columns: dict[str, list[Cell]] = {"x": [], "y": [], "servers": []}
    for (p, w, _), step_s in zip(data.points, data.step_s, strict=True):
        for name, cell in {"x": float(w), "y": float(step_s), "servers": _count(int(p), "server")}.items():
            columns[name].append(cell)
    layers.append(PlotLayer(mark="points", data=columns, series="servers"))
    lines: dict[str, list[Cell]] = {"x": [], "y": [], "servers": []}
    for p in sorted(set(data.points[:, 0])):
        workers = np.arange(1, data.points[:, 1].max() + 1)
        grid = np.stack([np.full(len(workers), p), workers, np.full(len(workers), data.points[0, 2])], 1)
        for w, step_s in zip(workers, best.predict(data.placements.at(grid)).step_s, strict=True):
            for name, cell in {"x": float(w), "y": float(step_s), "servers": _count(int(p), "server")}.items():
                lines[name].append(cell)
    layers.append(PlotLayer(mark="line", data=lines, series="servers"))
    replayed = f"; compute replayed in {data.replayed} of them" if data.replayed else ""
    text = f"{len(data)} configurations were measured with {data.points[0, 2]:g} images per step{replayed}. "
    text += f"Mean held-out error: {', '.join(f'{fit.held_out_mape:.1%} by {fit.requested}' for fit in fits)}"
    figure = Figure(
        name="speed",
        title="Step time, measured and fitted" + (", compute replayed" if data.replayed else ""),
        x=Axis(title="workers"),
        y=Axis(title="seconds per step"),
        layers=tuple(layers),
        caption=f"Lines: {best.requested}.",
    )
    warnings = [Finding(text=f"{fit.requested}: {text}.", n=len(data)) for fit in fits for text in fit.warnings]
    return Section(title="Speed", parts=(Finding(text=text + ".", n=len(data)), *warnings, table, figure))


def _section(settings: OptimusSettings, scale: Scale, epochs: Epochs, name: str, steps: Steps, source: str) -> Section:
    by_servers = {p: plans(scale, steps, epochs, [p]) for p in scale.servers}
    all_plans = plans(scale, steps, epochs, range(1, scale.most_servers + 1))
    fastest = min(all_plans, key=lambda plan: plan.hours)
    parts: list[Finding | Table | Figure] = [_best(settings, scale, fastest)]
    rows = []
    for p, several in by_servers.items():
        paid, least = last_paying_plan(several, scale.pays), min(several, key=lambda plan: plan.hours)
        text = f"{_count(p, 'server')}: with more than {_count(paid.workers, 'worker')}, an additional one shortens "
        text += f"the time by less than {scale.pays:.0%}. Time with {paid.workers}: {_time(paid)}; shortest time: "
        text += f"{_time(least)} with {least.workers}."
        parts.append(Finding(text=text, n=1))
        rows += [(p, "last worker that pays", *_row(paid)), (p, "fastest", *_row(least))]
        rows.append((p, "cheapest", *_row(min(several, key=lambda plan: plan.cost))))
    cheapest = min(all_plans, key=lambda plan: plan.cost)
    text = (
        f"At a price of {scale.price_per_hour:g} per hour for each server and worker, the cheapest configuration is "
        f"{_configuration(cheapest)}: {cheapest.cost:.3g} in {_time(cheapest)}; the fastest one costs "
        f"{fastest.cost:.3g}."
    )
    parts.append(Finding(text=text, n=1))
    rows += [(None, "fastest of all", *_row(fastest)), (None, "cheapest of all", *_row(cheapest))]
    parts.append(
        Table(
            name=f"plans-{name}",
            title="Configurations",
            columns=("fixed servers", "selected as", "servers", "workers", "hours", "from", "to", "cost"),
            rows=tuple(rows),
        )
    )
    parts += [_figure(settings, by_servers, name, "time"), _figure(settings, by_servers, name, "cost")]
    note = f"Step time from {source}; {epochs[0]:.3g} epochs of {scale.steps_per_epoch:.0f} steps (95 % interval: "
    note += f"{epochs[1]:.3g} to {epochs[2]:.3g}). " if np.isfinite(epochs[2]) else f"{epochs[1]:.3g}, unbounded). "
    if name == "published":
        note += f"The coefficients were published for {PUBLISHED_BATCH} images per step, without intervals: "
        note += f"{scale.batch} images are an extrapolation, and the band includes only the uncertainty of the epochs."
    return Section(title=f"Time to {settings.target:.0%}, step time from {source}", text=note, parts=tuple(parts))


def _best(settings: OptimusSettings, scale: Scale, plan: Plan) -> Finding:
    text = f"{settings.predicted} reaches {settings.target:.0%} fastest with {_configuration(plan)}: {_time(plan)}"
    edge = plan.servers == scale.most_servers or plan.workers == min(scale.most_workers, scale.batch)
    return Finding(text=text + (", at the edge of the search range." if edge else "."), n=1)


def _figure(settings: OptimusSettings, by_servers: dict[int, list[Plan]], name: str, what: str) -> Figure:
    columns: dict[str, list[Cell]] = {"x": [], "y": [], "low": [], "high": [], "servers": []}
    longest = max(plan.hours for several in by_servers.values() for plan in several)
    unit, per_hour = next(pair for pair in UNITS if longest * pair[1] >= 2 or pair[0] == "seconds")
    for p, several in by_servers.items():
        for plan in several:
            # A wide interval is cut off to keep the figure's other curves readable.
            ends = (plan.low, min(plan.high, plan.hours * 10))
            scaled = plan.cost / plan.hours if what == "cost" else per_hour
            row = (plan.workers, plan.hours * scaled, *(end * scaled for end in ends), _count(p, "server"))
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    return Figure(
        name=f"{what}-{name}",
        title=f"{'Time' if what == 'time' else 'Cost'} to {settings.target:.0%}",
        x=Axis(title="workers"),
        y=Axis(title=f"time ({unit})" if what == "time" else "cost", scale="log"),
        layers=(
            PlotLayer(mark="band", data=columns, low="low", high="high", series="servers"),
            PlotLayer(mark="line", data=columns, series="servers"),
        ),
        caption="Bands: 95 % intervals, cut off at ten times the predicted time.",
    )


def _row(plan: Plan) -> tuple[Cell, ...]:
    high = plan.high if np.isfinite(plan.high) else None
    return plan.servers, plan.workers, plan.hours, plan.low, high, plan.cost


def _configuration(plan: Plan) -> str:
    return f"{_count(plan.servers, 'server')} and {_count(plan.workers, 'worker')}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number > 1)}"


def _time(plan: Plan) -> str:
    high = _hours(plan.high) if np.isfinite(plan.high) else "unbounded"
    return f"{_hours(plan.hours)} ({_hours(plan.low)} to {high})"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.3g} s"
    return f"{hours * 60:.3g} min" if hours < 1 else f"{hours:,.3g} h"
