"""`distdl fit speed`, `distdl fit loss`, `distdl predict speed`."""

import json
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from distdl.core.config import AboveZero, FilePath
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.perf.learning.curves import HYPERBOLA
from distdl.perf.learning.loss_fit import LossFit, fit_loss
from distdl.perf.learning.read_losses import read_losses
from distdl.perf.speed import fit_speed, kriging, predict
from distdl.perf.speed.active_design import next_point
from distdl.perf.speed.placements import COLUMNS
from distdl.perf.speed.read_speeds import read
from distdl.perf.speed.speed_fit import SpeedFit


def speed(
    sources: tyro.conf.Positional[tuple[FilePath, ...]],
    /,
    *,
    form: str = "auto",
    parameter_bytes: AboveZero | None = None,
    bytes_per_s: AboveZero | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Fit the time of a step to measurements at several numbers of servers and workers, or of nodes and replicas.

    A CSV file has columns servers, workers, batch_size (global), steps_per_s (or step_s); or nodes, replicas,
    local_batch_size, steps_per_s (or step_s) and, if known, sync_s. --json > FIT.json is what
    `distdl predict speed` reads.

    Args:
        sources: a CSV file, or run folders.
        form: model of the step time: optimus-sync, optimus-async, pollux, or auto, which selects by held-out error.
        parameter_bytes: size of the model's parameters, for auto; needs --bytes-per-s.
        bytes_per_s: rate of each server's link: the cost of exchange is drawn towards 2 S / B.
        as_json: print JSON: form, coefficients, intervals, mape, held_out_mape (0.05 is 5 %), residuals, warnings.
    """
    if not sources:
        raise UserError("give a CSV file of measurements, or run folders")
    data = read(sources)
    fit = fit_speed(data, form, parameter_bytes=parameter_bytes, bytes_per_s=bytes_per_s)
    if as_json:
        print(json.dumps(fit.as_dict(), indent=2))
        return
    _show_speed(fit, PlainConsole())


def _show_speed(fit: SpeedFit, console: Console) -> None:
    units = fit.form.units
    table = Table("term", "seconds", "95 % interval", "a unit is", title=_title(fit), title_justify="left")
    for column in table.columns[1:3]:
        column.justify = "right"
    for name, value in fit.coefficients.items():
        low, high = fit.intervals[name]
        table.add_row(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}", units[name])
    console.print(table)
    count = len({tuple(point) for point in fit.data.points.tolist()})
    console.print(
        f"error of the {len(fit.data)} times {fit.mape:.1%}; of each of {count} configurations, "
        f"when left out, {fit.held_out_mape:.1%}"
    )
    if fit.kernel != kriging.NONE:
        console.print("residuals are interpolated between neighbouring configurations", style="dim")
    point, gain = next_point(fit)
    console.print(f"measure next: {fit.data.placements.name(point)} (removes {gain:.0%} of the predictions' variance)")
    for warning in fit.warnings:
        console.print(f"note: {warning}", style="yellow")


def _title(fit: SpeedFit) -> str:
    overlap = "" if fit.overlap == 1 else f", overlapping (g = {fit.overlap:.2g})"
    terms = f"{' + '.join(fit.form.compute)} | {' + '.join(fit.form.exchange)}" if fit.requested == "auto" else ""
    return f"step time, {fit.requested}{': ' if terms else ''}{terms}{overlap}"


def loss(
    file: tyro.conf.Positional[FilePath],
    /,
    *,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Fit a loss curve: Optimus' 1 / (b0 k + b1) + b2 after k steps, and phases where that fails.

    Phases begin where the learning rate drops, if the file has it (lr); otherwise where the curve does. Each has the
    form that predicts held-out losses best: a hyperbola, a power law, or an exponential decay.

    Args:
        file: a metrics.jsonl, a run folder, or a CSV file with columns step, loss and, if known, lr.
        as_json: print JSON: coefficients, intervals, mape, held_out_mape (0.05 is 5 %), phases, residuals, warnings.
    """
    steps, values, drops = read_losses(file)
    fit = fit_loss(steps, values, drops=drops)
    if as_json:
        print(json.dumps(fit.as_dict(), indent=2))
        return
    _show_loss(fit, PlainConsole())


def _show_loss(fit: LossFit, console: Console) -> None:
    table = Table("form", "from", "coefficient", "value", "95 % interval", "left out")
    for column in (1, 3, 4, 5):
        table.columns[column].justify = "right"
    curve = [("Optimus", fit.optimus)]
    alone = len(fit.phases) == 1 and fit.phases[0].shape is HYPERBOLA
    for title, phase in curve if alone else [*curve, *((phase.shape.name, phase) for phase in fit.phases)]:
        table.add_section()
        for row, (name, value, (low, high)) in enumerate(
            zip(phase.shape.names, phase.coefficients, phase.intervals, strict=True)
        ):
            lead = (title, f"{phase.first:g}") if row == 0 else ("", "")
            error = f"{phase.held_out_mape:.1%}" if row == 0 else ""
            table.add_row(*lead, name, f"{value:.4g}", f"{low:.3g} to {high:.3g}", error)
    console.print(table)
    console.print(f"{len(fit.steps)} losses, {fit.outliers} outliers replaced by their neighbours' mean")
    if not alone:
        console.print(
            f"error of losses left out: one hyperbola {fit.optimus.held_out_mape:.1%}, "
            f"{len(fit.phases)} phase{'s' * (len(fit.phases) > 1)} {fit.held_out_mape:.1%}"
        )
    for warning in fit.warnings:
        console.print(f"note: {warning}", style="yellow")


def predict_speed(
    file: tyro.conf.Positional[FilePath],
    /,
    *,
    servers: str = "",
    workers: str = "",
    nodes: str = "",
    replicas: str = "",
    batch: str = "",
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Predict step time and images/s of configurations from a fit, with 95 % intervals.

    Args:
        file: the output of `distdl fit speed --json`.
        servers: numbers of servers, e.g. 2,4.
        workers: numbers of workers, e.g. 1..64.
        nodes: numbers of nodes, for a fit to all-reduce.
        replicas: numbers of replicas on all nodes together, for a fit to all-reduce.
        batch: global batch; for a fit to all-reduce, the batch of each replica. By default the first measured one.
        as_json: print a JSON list.
    """
    fit = predict.load(file)
    given = {"servers": servers, "workers": workers, "nodes": nodes, "replicas": replicas}
    columns = COLUMNS[fit.data.kind][:2]
    for name, text in given.items():
        if bool(text) != (name in columns):
            raise UserError(
                f"--{name}: {file} is a fit over {' and '.join(columns)}: give --{columns[0]} and --{columns[1]}, no "
                "others"
            )
    batches = numbers(batch, "batch") if batch else [int(fit.data.points[0, 2])]
    rows = predict.predict_speed(fit, [numbers(given[name], name) for name in columns], batches)
    if as_json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
        return
    console = PlainConsole()
    table = Table(*columns, "batch", "step", "95 % interval", "steps/s", "images/s")
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        a, b, c = row.point.values()
        span = f"{_time(row.low_s)} to {_time(row.high_s)}"
        style = "dim" if row.outside else None
        table.add_row(
            *map(str, (a, b, c)),
            _time(row.step_s),
            span,
            f"{row.steps_per_s:.3g}",
            f"{row.images_per_s:,.0f}",
            style=style,
        )
    console.print(table)
    best = max(rows, key=lambda row: row.images_per_s)
    console.print("most images/s: " + ", ".join(f"{name} {value}" for name, value in best.point.items()))
    if any(row.outside for row in rows):
        console.print("dim rows are outside the measured range: their intervals rely on the form", style="dim")


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def numbers(text: str, name: str) -> list[int]:
    """Parse a list of whole numbers such as "1,2,4..8".

    Raises:
        UserError: it is not such a list.
    """
    values: list[int] = []
    for part in text.split(","):
        ends = part.strip().split("..")
        if len(ends) > 2 or not all(end.isdecimal() and int(end) > 0 for end in ends):
            raise UserError(f'--{name} "{text}": expected are numbers of 1 or more, such as 2,4 or 1..64')
        values.extend(range(int(ends[0]), int(ends[-1]) + 1))
    if not values or len(values) > 10_000:
        raise UserError(f'--{name} "{text}" is {len(values)} numbers; 1 to 10000 are expected')
    return sorted(set(values))
