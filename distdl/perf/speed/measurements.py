"""Measured step times as the speed models read them: arrays, from a CSV file or from run folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distdl.core.errors import UserError, nearest, reason, shortened
from distdl.core.result import current_result, is_unfinished
from distdl.core.userfiles import read_csv as read_csv_rows

Array = NDArray[np.float64]
Kind = Literal["servers", "replicas"]

COLUMNS: dict[Kind, tuple[str, str, str]] = {
    "servers": ("servers", "workers", "batch_size"),
    "replicas": ("nodes", "replicas", "local_batch_size"),
}
"""What the three columns of `Measurements.points` are: under a parameter server, and under all-reduce."""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Step times of one model on one kind of hardware, at n configurations (which may repeat)."""

    kind: Kind
    points: Array
    """[n, 3] (servers, workers, global batch) or (nodes, replicas, batch a replica); all at least 1."""
    step_s: Array
    """[n] seconds a step, 1 / steps_per_s; asynchronous: between two updates, whichever worker they come from."""
    sync_s: Array | None = None
    """[n] seconds of `step_s` that are exchange and not hidden behind backward; None where not measured."""
    mode: Literal["sync", "async"] | None = None
    """How servers apply gradients, where the data say so."""
    replayed: int = 0
    """Measurements in which compute was waited for in place of done (ps.compute replay)."""

    def __len__(self) -> int:
        return len(self.step_s)

    def take(self, rows: Array) -> "Measurements":
        """The measurements at `rows` (indices or a mask)."""
        sync = None if self.sync_s is None else self.sync_s[rows]
        return replace(self, points=self.points[rows], step_s=self.step_s[rows], sync_s=sync)

    @property
    def configurations(self) -> Array:
        """[n] integers: rows of equal number measure the same configuration."""
        return np.unique(self.points, axis=0, return_inverse=True)[1].ravel()

    def name(self, point: Array) -> str:
        """A point in words, e.g. "servers 2, workers 4, batch_size 128"."""
        return ", ".join(f"{column} {value:g}" for column, value in zip(COLUMNS[self.kind], point, strict=True))


def read(sources: Sequence[Path]) -> Measurements:
    """Step times from one CSV file, or from run folders.

    Raises:
        UserError: what is wrong, in which file and line.
    """
    files = [source for source in sources if not source.is_dir()]
    if len(sources) == 1 and files:
        return read_csv(files[0])
    if files:
        raise UserError(f"{files[0]} is no run folder; give one CSV file, or run folders only")
    return read_runs(sources)


def read_csv(file: Path) -> Measurements:
    """Step times from a CSV file with a line of column names.

    Columns `servers, workers, batch_size` or `nodes, replicas, local_batch_size`, and `steps_per_s` or `step_s`; with
    replicas also `sync_s`, where known. `mode` (sync or async) is used where present; other columns are left alone.

    Raises:
        UserError: what is wrong, in which file and line.
    """
    lines = _lines(file)
    header = lines[0][1]
    kind: Kind = "replicas" if "replicas" in header and "servers" not in header else "servers"
    time = "steps_per_s" if "steps_per_s" in header else "step_s"
    wanted = [*COLUMNS[kind], time]
    for name in wanted:
        if name not in header:
            either = "steps_per_s or step_s" if name == "step_s" and kind == "servers" else name
            other = f"; without servers, {expected('replicas')}" if name == "servers" else ""
            raise UserError(
                f"{file}, line 1: column {either} is missing{nearest(name, header)}; {expected(kind)}{other}"
            )
    if len(lines) == 1:
        raise UserError(f"{file} has column names but no measurements")
    sync = ["sync_s"] if kind == "replicas" and "sync_s" in header else []
    rows = [[_number(file, line, header, cells, name) for name in [*wanted, *sync]] for line, cells in lines[1:]]
    table = np.array(rows)
    step_s = 1 / table[:, 3] if time == "steps_per_s" else table[:, 3]
    sync_s = table[:, 4] if sync else None
    if sync_s is not None and (late := np.flatnonzero(sync_s >= step_s)).size:
        raise UserError(f"{file}, line {lines[1 + late[0]][0]}: sync_s is not less than step_s, of which it is a part")
    _one_value(file, lines, header, "model")
    mode = _mode(file, _one_value(file, lines, header, "mode"))
    return Measurements(kind=kind, points=table[:, :3], step_s=step_s, sync_s=sync_s, mode=mode)


def expected(kind: Kind) -> str:
    """The columns that a file of this kind has, as a clause."""
    time = "steps_per_s (or step_s)" + (" and, where known, sync_s" if kind == "replicas" else "")
    return f"expected are {', '.join(COLUMNS[kind])}, {time}"


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Numbered lines that are not empty; the first holds the names."""
    lines = read_csv_rows(file)
    if not lines:
        raise UserError(f"{file} is empty; {expected('servers')}")
    return lines


def _number(file: Path, line: int, header: list[str], cells: list[str], name: str) -> float:
    text = cells[header.index(name)]
    try:
        value = float(text)
    except ValueError:
        raise UserError(f'{file}, line {line}: {name} is "{shortened(text)}", not a number') from None
    least, words = (0.0, "0 or more") if name == "sync_s" else (1.0, "1 or more")
    if name in ("step_s", "steps_per_s"):
        least, words = math.ulp(0.0), "positive"
    if not math.isfinite(value) or value < least:
        raise UserError(f"{file}, line {line}: {name} is {shortened(text)}; it must be finite and {words}")
    return value


def _one_value(file: Path, lines: list[tuple[int, list[str]]], header: list[str], name: str) -> str | None:
    """The value that a column has in every line; None without that column."""
    if name not in header:
        return None
    column = header.index(name)
    first = lines[1][1][column]
    for line, cells in lines[2:]:
        if (other := cells[column]) != first:
            values = f'"{shortened(other)}" after "{shortened(first)}"'
            raise UserError(f"{file}, line {line}: {name} is {values}; fit one {name} at a time")
    return first


def _mode(file: Path, word: str | None) -> Literal["sync", "async"] | None:
    if word is None:
        return None
    if word.lower() not in ("sync", "async", "ssp", "dist_sync", "dist_async"):
        raise UserError(f'{file}: mode is "{shortened(word)}"; known are sync and async')
    return "sync" if word.lower().endswith("_sync") or word.lower() == "sync" else "async"


def read_runs(folders: Sequence[Path]) -> Measurements:
    """Step times from run folders of the parameter server, or from run folders of all-reduce.

    Raises:
        UserError: a folder is no finished run, or the runs are of both kinds.
    """
    runs = [_run(folder) for folder in folders]
    kinds = {run.kind: folder for run, folder in zip(runs, folders, strict=True)}
    if len(kinds) > 1:
        raise UserError(f"{kinds['servers']} ran under a parameter server, {kinds['replicas']} did not; fit them apart")
    if len({run.mode for run in runs}) > 1:
        raise UserError(f"{folders[0]} and others differ in ps.mode; fit one mode at a time")
    sync, kind = np.array([run.sync_s for run in runs]), runs[0].kind
    return Measurements(
        kind=kind,
        points=np.array([run.point for run in runs], float),
        step_s=np.array([run.step_s for run in runs]),
        sync_s=sync if kind == "replicas" and np.isfinite(sync).all() else None,
        mode=runs[0].mode,
        replayed=sum(run.replayed for run in runs),
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one run folder tells."""

    kind: Kind
    point: tuple[int, int, int]
    step_s: float
    sync_s: float = math.nan
    mode: Literal["sync", "async"] | None = None
    replayed: bool = False


def _run(folder: Path) -> _Run:
    file = folder / "result.json"
    if not file.exists():
        raise UserError(f"{folder} is no finished run: it has no {file.name}")
    try:
        result = current_result(folder)
        if not file.is_file() or is_unfinished(result):
            state = "it has not ended in order" if file.is_file() else f"it has no {file.name}"
            raise UserError(f"{folder} is no finished run: {state}")
        world, steps, train_s = int(result["world_size"]), int(result["steps"]), float(result["train_s"])
        batch = int(result["global_batch"])
        exchange_s = float(result.get("phases_s", {}).get("exchange", math.nan))
        if steps < 1 or not 0 < train_s < math.inf or batch < 1 or world < 1:
            raise UserError(f"{file}: {steps} steps in {train_s:g} s at a global batch of {batch} tell no step time")
        step_s = train_s / steps
        if result.get("strategy") != "ps":
            point = (int(result.get("nodes", 1)), world, max(1, batch // world))
            return _Run(kind="replicas", point=point, step_s=step_s, sync_s=exchange_s / steps)
        return _served(result["ps"], batch, step_s)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} is not what distdl writes: {reason(error)}") from None


def _served(ps: Mapping[str, Any], batch: int, mean_s: float) -> _Run:
    """A run under a parameter server. Its step is the median, where known: the mean has the first ones in it."""
    workers, sync = int(ps["workers"]), ps["mode"] == "sync"
    step_s = float(ps["medians"].get("step_s", mean_s))
    return _Run(
        kind="servers",
        point=(len(ps["servers"]), workers, batch),
        # A worker of an asynchronous run counts its own steps; the model is told the time between two updates of all.
        step_s=step_s if sync else step_s / workers,
        mode="sync" if sync else "async",
        replayed=bool(ps["replayed"]),
    )
