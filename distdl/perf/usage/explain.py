"""`distdl explain RUN`: a run's waterfall as a table, figure or JSON, its largest loss and what would mend it."""

import json as json_format
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Group
from rich.table import Table
from rich.text import Text

from distdl.core.console import PlainConsole
from distdl.core.errors import UserError, reading
from distdl.core.result import current_result, is_unfinished
from distdl.core.rundir import CONFIG, ENVIRONMENT, METRICS, RESULT
from distdl.perf.usage.waterfall import WORK, Waterfall, waterfall
from distdl.report import save_figure as figure_file
from distdl.runtime.cores import BUSY

BAR = 16
"""Columns of the table's bars."""


def explain(
    run: tyro.conf.Positional[Path], *, device: str = "", json: bool = False, figure: Path | None = None
) -> None:
    """Show where a run's time went: from what its device could do to what it did.

    Args:
        run: folder of a run; of one that runs or was killed, its time so far is shown.
        device: hold the run against this device, by name or file (what distdl calibrate wrote), not the one recognised.
        json: print a JSON object in place of the table.
        figure: draw the waterfall into this file (.png, .svg or .pdf).
    """
    figure_file.check(figure)
    result, config = read_run(run)
    with reading(run / RESULT, "the times of a run"):
        if device:
            result = against(run, result, config, device)
        found = waterfall(result, config)
        shown = render(found, result, title=run.resolve().name)
        about = {"run": str(run), "status": result.get("status")}
        text = json_format.dumps({**about, **found.as_dict(), "utilisation": result.get("utilisation")}, indent=2)
        drawn = draw(found, title=run.resolve().name) if figure else None
    if drawn and figure:
        figure_file.save(drawn, figure, dpi=150)
    if json:
        print(text)
    else:
        PlainConsole().print(shown)


def read_run(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """result.json and config.toml of a run; of one that has not ended in order, the figures so far.

    Raises:
        UserError: there is no run, it has not trained yet, or it was made without telemetry.
    """
    result = current_result(run)
    if not result and not (run / RESULT).is_file():
        state = "has not ended yet" if (run / CONFIG).is_file() else "is no run folder"
        raise UserError(f"{run} {state}: there is no {RESULT} in it to explain, and no row of training in {METRICS}")
    if is_unfinished(result):
        result.setdefault("device", _device(run))
    if not result.get("held_s") or not result.get("steps"):
        raise UserError(f"{run} has no times to explain: the run ended before its first step was measured")
    file = run / CONFIG
    if not file.is_file():
        return result, {}
    with reading(file, "TOML"):
        return result, tomllib.loads(file.read_text(encoding="utf-8"))


def _device(run: Path) -> str:
    """The kind of device of a run that has no result: a GPU, if its machine has one."""
    try:
        with reading(run / ENVIRONMENT, "JSON"):
            return "cuda" if json_format.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))["gpus"] else "cpu"
    except UserError:
        return "cpu"


def against(run: Path, result: dict[str, Any], config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The result with the bounds of another device in place of the recognised one's."""
    from distdl.perf import hardware
    from distdl.perf.usage.utilisation import bounds, ppp_by_kind
    from distdl.planner import workload as subject
    from distdl.profiling.counting.count import count

    network, held = subject.named(str(run / "config.toml")), hardware.device(device)
    counted = count(network.module, network.input_shape, network.batch, training=True)
    used = dict(result.get("utilisation") or {})
    precision = config.get("compute", {}).get("precision", "fp32")
    found = bounds(counted, held, precision)
    used.pop("ppp_by_kind", None)
    if found["peak_flops_per_s"] and "kernel_s_by_kind" in used:
        used["ppp_by_kind"] = ppp_by_kind(counted, used["kernel_s_by_kind"], found["peak_flops_per_s"])
    return result | found | {"utilisation": used | {"device": held.name, "precision": precision}}


def render(found: Waterfall, result: Mapping[str, Any], *, title: str) -> Group:
    """The table and the sentences under it."""
    so_far = f" so far ({result['status']}, step {result['steps']:,})" if is_unfinished(dict(result)) else ""
    table = Table(
        title=f"{title}: where {_duration(found.whole_s)} went{so_far}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("part", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", width=BAR, no_wrap=True)
    table.add_column("what it is", style="dim")
    start = 0.0
    for part in found.parts:
        style = "green" if part.name in WORK else "bold red" if part.name == found.largest else "yellow"
        bar = Text(
            " " * round(start * BAR) + "█" * max(round((start + part.share) * BAR) - round(start * BAR), 0), style
        )
        table.add_row(part.name, f"{part.seconds:.2f}", f"{part.share:.1%}", bar, part.what)
        start += part.share
    table.add_row(
        "unaccounted", f"{found.unaccounted * found.whole_s:.2f}", f"{found.unaccounted:.1%}", "", "", end_section=True
    )
    return Group(table, "", *(Text(line) for line in sentences(found, result)))


def sentences(found: Waterfall, result: Mapping[str, Any]) -> list[str]:
    """What the numbers say."""
    lines = []
    if result.get("ps", {}).get("replayed"):
        lines.append("Compute was replayed: waited for, not done. Only what was sent and received is measured here.")
    flops, step_s = result.get("flops_per_step"), result["train_s"] / result["steps"]
    if flops:
        said = (
            "its device's peak is not known" if found.mfu is None else f"MFU {found.mfu:.1%} of {_dense_peak(result)}"
        )
        lines.append(f"{flops / step_s / 1e12:.3g} TFLOP/s achieved in training, {said}.")
    used = result.get("utilisation") or {}
    seen = [f"{name.replace('_', ' ')} {used[name]:.0%}" for name in _SEEN if used.get(name) is not None]
    if seen:
        lines.append(f"The device itself says: {', '.join(seen)}.")
    ppp = used.get("ppp_by_kind") or {}
    if ppp:
        lines.append(
            "Percent of peak by kind: " + ", ".join(f"{kind} {share:.1%}" for kind, share in ppp.items()) + "."
        )
    busy = result.get("cores_busy_at_start", 0.0)
    if result.get("device") == "cpu" and busy >= BUSY:
        lines.append(
            f"Other programs kept {busy:.1f} cores busy when the run started: compute, exchange and data waited for "
            "them. Run it on a quiet machine, or with fewer --compute.threads."
        )
    largest = next(part for part in found.parts if part.name == found.largest)
    lines.append(f"The largest loss is {largest.name}, {largest.share:.1%}: {largest.what}.")
    lines.append(f"What would mend it: {found.remedy}.")
    if any(part.name in ("kernels and gaps", "compute") for part in found.parts) and "kernel_step_s" not in result:
        lines.append("A run with --telemetry.profile-steps 5 tells kernels from the gaps between them.")
    return lines


_SEEN = ("busy", "sm_active", "tensor_active", "dram_active")


def _dense_peak(result: Mapping[str, Any]) -> str:
    used = result.get("utilisation") or {}
    return f"{result['peak_flops_per_s'] / 1e12:.4g} TFLOP/s ({used.get('device')}, {used.get('precision')}, dense)"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def draw(found: Waterfall, *, title: str) -> Any:
    """The waterfall as a matplotlib figure: each bar begins where the one above it ends."""
    from matplotlib.figure import Figure

    parts: Sequence[Any] = found.parts
    figure = Figure(figsize=(8, 0.36 * len(parts) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    start = 0.0
    for row, part in enumerate(parts):
        color = "#2b8a3e" if part.name in WORK else "#c92a2a" if part.name == found.largest else "#f08c00"
        axes.barh(row, part.share * 100, left=start * 100, color=color, height=0.7)
        at_end = start + part.share < 0.8
        axes.text(
            (start + part.share if at_end else start) * 100,
            row,
            f" {part.share:.1%} ({_duration(part.seconds)}) ",
            va="center",
            ha="left" if at_end else "right",
            fontsize=8,
        )
        start += part.share
    axes.set_yticks(range(len(parts)), [part.name for part in parts])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"% of {_duration(found.whole_s)}")
    mfu = "" if found.mfu is None else f", MFU {found.mfu:.1%}"
    axes.set_title(f"{title}: where the time went{mfu}", loc="left", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
