"""Read measured step times from a CSV file or from run folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distdl.core import tables
from distdl.core.errors import UserError, reason, shortened
from distdl.core.result import current_result, is_unfinished
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import COLUMNS, PlacementKind, Placements


def read(sources: Sequence[Path]) -> Measurements:
    """Read step times from one CSV file, or from run folders.

    Raises:
        UserError: a file or run folder cannot be used; the message names the line and the problem.
    """
    files = [source for source in sources if not source.is_dir()]
    if len(sources) == 1 and files:
        return read_csv(files[0])
    if files:
        raise UserError(f"{files[0]} is not a run folder; give one CSV file, or run folders only")
    return read_runs(sources)


def read_csv(file: Path) -> Measurements:
    """Read step times from a CSV file with a line of column names.

    Columns `servers, workers, batch_size` or `nodes, replicas, local_batch_size`, and `steps_per_s` or `step_s`; with
    replicas also `sync_s`, if known. `mode` (sync or async) is used if present; other columns are ignored.

    Raises:
        UserError: the file cannot be used; the message names the line and the problem.
    """
    table = tables.read_csv(file, expected=expected("servers"))
    kind: PlacementKind = "replicas" if "replicas" in table.columns and "servers" not in table.columns else "servers"
    time = "steps_per_s" if "steps_per_s" in table.columns else "step_s"
    hint = expected(kind) + ("" if kind == "replicas" else f"; without servers, {expected('replicas')}")
    table.require(*COLUMNS[kind], hint=hint)
    if time not in table.columns:
        raise UserError(f"{file}, line {table.line}: column steps_per_s or step_s is missing; {expected(kind)}")
    if not len(table):
        raise UserError(f"{file} has column names but no measurements")
    has_sync = kind == "replicas" and "sync_s" in table.columns
    values = np.array([_values(row, kind, time, has_sync) for row in table])
    step_s = 1 / values[:, 3] if time == "steps_per_s" else values[:, 3]
    sync_s = values[:, 4] if has_sync else None
    if sync_s is not None and (invalid := np.flatnonzero(sync_s >= step_s)).size:
        raise table.rows[invalid[0]].error("sync_s is not less than step_s, of which it is a part")
    table.single_value("model")
    mode = _mode(file, table.single_value("mode"))
    return Measurements(placements=Placements(kind=kind, points=values[:, :3]), step_s=step_s, sync_s=sync_s, mode=mode)


def _values(row: tables.CsvRow, kind: PlacementKind, time: str, has_sync: bool) -> list[float]:
    values = [row.number(name, minimum=1) for name in COLUMNS[kind]]
    values.append(row.number(time, positive=True))
    return [*values, row.number("sync_s", minimum=0)] if has_sync else values


def expected(kind: PlacementKind) -> str:
    """Describe the columns of a file of this kind, as a clause of a message."""
    time = "steps_per_s (or step_s)" + (" and, if known, sync_s" if kind == "replicas" else "")
    return f"expected columns: {', '.join(COLUMNS[kind])}, {time}"


def _mode(file: Path, text: str | None) -> Literal["sync", "async"] | None:
    if text is None:
        return None
    name = text.lower()
    if name not in ("sync", "async", "ssp", "dist_sync", "dist_async"):
        raise UserError(f'{file}: mode is "{shortened(text)}"; known are sync and async')
    return "sync" if name in ("sync", "dist_sync") else "async"


def read_runs(folders: Sequence[Path]) -> Measurements:
    """Read step times from run folders of the parameter server, or from run folders of all-reduce.

    Raises:
        UserError: a folder is not a finished run, or the runs are of both kinds.
    """
    runs = [_read_run(folder) for folder in folders]
    kinds = {run.kind: folder for run, folder in zip(runs, folders, strict=True)}
    if len(kinds) > 1:
        raise UserError(
            f"{kinds['servers']} ran with a parameter server, {kinds['replicas']} without; fit them separately"
        )
    if len({run.mode for run in runs}) > 1:
        raise UserError(f"{folders[0]} and others differ in ps.mode; fit one mode at a time")
    sync_s, kind = np.array([run.sync_s for run in runs]), runs[0].kind
    return Measurements(
        placements=Placements(kind=kind, points=np.array([run.point for run in runs], float)),
        step_s=np.array([run.step_s for run in runs]),
        sync_s=sync_s if kind == "replicas" and np.isfinite(sync_s).all() else None,
        mode=runs[0].mode,
        replayed=sum(run.replayed for run in runs),
    )


@dataclass(frozen=True, kw_only=True)
class _MeasuredRun:
    """The placement and step time of one run folder."""

    kind: PlacementKind
    point: tuple[int, int, int]
    step_s: float
    sync_s: float = math.nan
    mode: Literal["sync", "async"] | None = None
    replayed: bool = False


def _read_run(folder: Path) -> _MeasuredRun:
    file = folder / "result.json"
    if not file.exists():
        raise UserError(f"{folder} is not a finished run: it has no {file.name}")
    try:
        result = current_result(folder)
        if not file.is_file() or is_unfinished(result):
            state = "it is running, was killed or failed" if file.is_file() else f"it has no {file.name}"
            raise UserError(f"{folder} is not a finished run: {state}")
        world, steps, train_s = int(result["world_size"]), int(result["steps"]), float(result["train_s"])
        batch = int(result["global_batch"])
        exchange_s = float(result.get("phases_s", {}).get("exchange", math.nan))
        if steps < 1 or not 0 < train_s < math.inf or batch < 1 or world < 1:
            raise UserError(f"{file}: no step time follows from {steps} steps in {train_s:g} s with batch size {batch}")
        step_s = train_s / steps
        if result.get("strategy") != "ps":
            point = (int(result.get("nodes", 1)), world, max(1, batch // world))
            return _MeasuredRun(kind="replicas", point=point, step_s=step_s, sync_s=exchange_s / steps)
        return _under_servers(result["ps"], batch, step_s)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} is not a result of distdl: {reason(error)}") from None


def _under_servers(ps: Mapping[str, Any], batch: int, mean_s: float) -> _MeasuredRun:
    """Read a run with a parameter server. Its step time is the median, if known: the mean includes slow first steps."""
    workers, is_sync = int(ps["workers"]), ps["mode"] == "sync"
    step_s = float(ps["medians"].get("step_s", mean_s))
    return _MeasuredRun(
        kind="servers",
        point=(len(ps["servers"]), workers, batch),
        # A worker of an asynchronous run counts its own steps; the model needs the time between updates of any worker.
        step_s=step_s if is_sync else step_s / workers,
        mode="sync" if is_sync else "async",
        replayed=bool(ps["replayed"]),
    )
