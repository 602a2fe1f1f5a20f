"""`distdl fit loss FILE`: a loss curve from measured losses."""

import json
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from distdl.core.config import FilePath
from distdl.core.console import PlainConsole
from distdl.perf.learning.curves import HYPERBOLA
from distdl.perf.learning.loss_fit import LossFit, fit_loss
from distdl.perf.learning.read_losses import read_losses


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
    console.print(f"{len(fit.steps)} losses, {fit.outliers} outliers replaced by their neighbors' mean")
    if not alone:
        console.print(
            f"error of losses left out: one hyperbola {fit.optimus.held_out_mape:.1%}, "
            f"{len(fit.phases)} phase{'s' * (len(fit.phases) > 1)} {fit.held_out_mape:.1%}"
        )
    for warning in fit.warnings:
        console.print(f"note: {warning}", style="yellow")
