"""`distdl fit speed SOURCES`: a speed model from measured step times."""

import json
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from distdl.core.config import AboveZero, FilePath
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.perf.speed import fit_speed, kriging
from distdl.perf.speed.active_design import next_point
from distdl.perf.speed.forms import RENAMED, published_form
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
    local_batch_size, steps_per_s (or step_s) and, if known, sync_s. `distdl predict speed` reads the output
    of --json.

    Args:
        sources: a CSV file, or run folders.
        form: model of the step time: optimus-sync, optimus-async, pollux, or auto, which selects by held-out error.
        parameter_bytes: size of the model's parameters, for auto; needs --bytes-per-s.
        bytes_per_s: rate of each server's link: the cost of exchange is drawn towards 2 S / B.
        as_json: print JSON: form, coefficients, intervals, mape, held_out_mape (0.05 is 5 %), residuals, warnings.
    """
    if not sources:
        raise UserError("give a CSV file of measurements, or run folders")
    if form != "auto" and form not in RENAMED:
        published_form(form)  # a wrong name is reported before files are read
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
        f"error of the {len(fit.data)} times: {fit.mape:.1%}; of {count} configurations, "
        f"each predicted from the others: {fit.held_out_mape:.1%}"
    )
    if fit.kernel != kriging.NONE:
        console.print("residuals are interpolated between neighboring configurations", style="dim")
    point, gain = next_point(fit)
    console.print(f"measure next: {fit.data.placements.name(point)} (removes {gain:.0%} of the predictions' variance)")
    for warning in fit.warnings:
        console.print(f"note: {warning}", style="yellow")


def _title(fit: SpeedFit) -> str:
    overlap = "" if fit.overlap == 1 else f", overlapping (g = {fit.overlap:.2g})"
    terms = f"{' + '.join(fit.form.compute)} | {' + '.join(fit.form.exchange)}" if fit.requested == "auto" else ""
    return f"step time, {fit.requested}{': ' if terms else ''}{terms}{overlap}"
