"""`distdl predict speed FIT.json`: step times of other configurations from a fit."""

import json
from typing import Annotated

import tyro
from rich.table import Table

from distdl.core.config import FilePath
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.perf.speed import predict
from distdl.perf.speed.placements import COLUMNS


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
    texts = {"servers": servers, "workers": workers, "nodes": nodes, "replicas": replicas, "batch": batch}
    given = {name: numbers(text, name) for name, text in texts.items() if text}
    fit = predict.load(file)
    columns = COLUMNS[fit.data.kind][:2]
    batches = given.pop("batch", [int(fit.data.points[0, 2])])
    about = f"{file} is a fit over {' and '.join(columns)}"
    if missing := [f"--{name}" for name in columns if name not in given]:
        raise UserError(f"missing: {' and '.join(missing)}, such as {missing[0]} 1..8: {about}")
    if others := [f"--{name}" for name in given if name not in columns]:
        raise UserError(f"{others[0]} has no effect: {about}")
    rows = predict.predict_speed(fit, [given[name] for name in columns], batches)
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
            raise UserError(f'--{name} "{text}": expected numbers of at least 1, such as 2,4 or 1..64')
        values.extend(range(int(ends[0]), int(ends[-1]) + 1))
    if not values or len(values) > 10_000:
        raise UserError(f'--{name} "{text}" has {len(values)} numbers; at most 10000 are allowed')
    return sorted(set(values))
