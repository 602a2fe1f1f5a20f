"""`distdl explain RUN`: where a run's time went, as a table, figure or JSON, with its largest loss and the remedy."""

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from rich.console import Group
from rich.table import Table
from rich.text import Text

from distdl.core.config import FilePath
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError, reading
from distdl.core.format import duration
from distdl.core.result import checked_result, is_unfinished
from distdl.core.run_files import CONFIG, ENVIRONMENT, METRICS, RESULT
from distdl.core.userfiles import read_json, read_toml
from distdl.perf import hardware
from distdl.perf.usage.explain import sentences
from distdl.perf.usage.utilisation import bounds, ppp_by_kind
from distdl.perf.usage.waterfall import WORK, Waterfall, waterfall
from distdl.report import figure_files
from distdl.report.time_spent import waterfall_figure

BAR = 16
"""Columns of the table's bars."""


def explain(
    run: tyro.conf.Positional[FilePath], *, device: str = "", json: bool = False, figure: FilePath | None = None
) -> None:
    """Show where a run's time went, from the peak of its device to the measured time.

    Args:
        run: folder of a run. For a run that is still training or was killed, the time so far is shown.
        device: compare with this device, by name or file (written by distdl calibrate), not with the detected one.
        json: print a JSON object instead of the table.
        figure: draw the waterfall into this file (.png, .svg or .pdf).
    """
    figure_files.check(figure)
    result, config = read_run(run)
    title = run.resolve().name
    with reading(run / RESULT, "the times of a run"):
        if device:
            result = compared_with(run, result, config, device)
        parts = waterfall(result, config)
        table = render(parts, result, title=title)
        about = {"run": str(run), "status": result.get("status")}
        text = json_format.dumps({**about, **parts.as_dict(), "utilisation": result.get("utilisation")}, indent=2)
    if figure:
        mfu = "" if parts.mfu is None else f", MFU {parts.mfu:.1%}"
        figure_files.save(waterfall_figure(parts, title=f"{title}: where the time went{mfu}"), figure)
    if json:
        print(text)
    else:
        PlainConsole().print(table)
    if figure:
        PlainConsole(stderr=json).print(f"figure: {figure}", soft_wrap=True)


def read_run(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """result.json and config.toml of a run; for an unfinished run, the figures so far.

    Raises:
        UserError: there is no run, it has not trained yet, or it was made without telemetry.
    """
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is not a folder: give the folder of a run")
    result = checked_result(run)
    if not result and not (run / RESULT).is_file():
        state = "has not ended yet" if (run / CONFIG).is_file() else "is no run folder"
        raise UserError(f"{run} {state}: it has no {RESULT} to explain, and no training row in {METRICS}")
    if is_unfinished(result):
        result.setdefault("device", _device(run))
    if not result.get("held_s") or not result.get("steps"):
        raise UserError(f"{run} has no times to explain: the run ended before its first step was measured")
    file = run / CONFIG
    if not file.is_file():
        return result, {}
    return result, read_toml(file)


def _device(run: Path) -> str:
    """Device type of a run without a result: cuda if its machine has a GPU."""
    try:
        return "cuda" if read_json(run / ENVIRONMENT).get("gpus") else "cpu"
    except UserError:
        return "cpu"


def compared_with(run: Path, result: dict[str, Any], config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The result with the bounds of the device that is named instead of those of the detected one."""
    from distdl.planner import workload  # imports torch
    from distdl.profiling.counting.count import count

    network, reference = workload.named(str(run / CONFIG)), hardware.device(device)
    counted = count(network.module, network.input_shape, network.batch, training=True)
    used = dict(result.get("utilisation") or {})
    precision = config.get("compute", {}).get("precision", "fp32")
    limits = bounds(counted, reference, precision)
    used.pop("ppp_by_kind", None)
    peak = limits["peak_flops_per_s"]
    if peak and "kernel_s_by_kind" in used:
        used["ppp_by_kind"] = ppp_by_kind(counted, used["kernel_s_by_kind"], peak)
    return result | limits | {"utilisation": used | {"device": reference.name, "precision": precision}}


def render(parts: Waterfall, result: Mapping[str, Any], *, title: str) -> Group:
    """The table of the parts, and the sentences below it."""
    so_far = f" so far ({result['status']}, step {result['steps']:,})" if is_unfinished(dict(result)) else ""
    table = Table(
        title=f"{title}: where {duration(parts.whole_s)} went{so_far}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("part", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", width=BAR, no_wrap=True)
    table.add_column("description", style="dim")
    start = 0.0
    for part in parts.parts:
        style = "green" if part.name in WORK else "bold red" if part.name == parts.largest else "yellow"
        length = max(round((start + part.share) * BAR) - round(start * BAR), 0)
        bar = Text(" " * round(start * BAR) + "█" * length, style)
        table.add_row(part.name, f"{part.seconds:.2f}", f"{part.share:.1%}", bar, part.what)
        start += part.share
    unaccounted_s = parts.unaccounted * parts.whole_s
    table.add_row("unaccounted", f"{unaccounted_s:.2f}", f"{parts.unaccounted:.1%}", "", "", end_section=True)
    return Group(table, "", *map(Text, sentences(parts, result)))
