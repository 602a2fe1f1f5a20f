"""Activity of devices and host during a run: one figure per group of counters that the run has."""

from collections.abc import Sequence

from distdl.core.format import Cell
from distdl.core.schema import number
from distdl.report.content import Axis, Figure, PlotLayer, Section
from distdl.report.counters import GROUPS, CounterGroup
from distdl.report.run_folder import Run, RunRow

MOST_SERIES = 16
"""Largest number of series per figure; the caption lists the others."""


def telemetry(runs: Sequence[Run]) -> Section:
    """Return a section with the samples, or with a text that there are none."""
    figures = tuple(figure for group in GROUPS if (figure := _figure(group, runs)))
    if figures:
        errors = sorted({str(row["error"]) for run in runs for row in run.telemetry if "error" in row})
        text = "".join(f"Telemetry reported: {error}. " for error in errors)
        return Section(title="Machine", text=text, parts=figures)
    return Section(title="Machine", text="No telemetry was sampled: --telemetry.hz 0, or the run was too short.")


def _figure(group: CounterGroup, runs: Sequence[Run]) -> Figure | None:
    series: dict[str, tuple[list[float], list[float]]] = {}
    length_s = 0.0
    for run in runs:
        rows = [row for row in run.telemetry if row["kind"] == group.kind]
        devices = _device_names(rows)
        first_s = min((row["time_s"] for row in run.telemetry), default=0.0)
        present = [field for field in group.fields if any(number(row.get(field)) for row in rows)]
        for row in rows:
            seconds = row["time_s"] - first_s
            length_s = max(length_s, seconds)
            for field in present:
                value = number(row.get(field))
                if value is not None:
                    labels = (
                        run.label if len(runs) > 1 else "",
                        devices[_device(row)] if len(devices) > 1 else "",
                        group.fields[field] if len(group.fields) > 1 else "",
                    )
                    times, values = series.setdefault(", ".join(filter(None, labels)), ([], []))
                    times.append(seconds)
                    values.append(value / group.divisor)
    if not series:
        return None
    scale, unit = (60.0, "min") if length_s > 300 else (1.0, "s")
    not_drawn = list(series)[MOST_SERIES:]
    x = f"time ({unit})"
    data: dict[str, list[Cell]] = {x: [], group.unit: [], "curve": []}
    for name, (times, values) in list(series.items())[:MOST_SERIES]:
        data[x] += [seconds / scale for seconds in times]
        data[group.unit] += values
        data["curve"] += [name or group.title] * len(times)
    layer = PlotLayer(mark="line", data=data, x=x, y=group.unit, series="curve")
    caption = f"Not drawn: {', '.join(not_drawn)}." if not_drawn else ""
    return Figure(
        name=group.name, title=group.title, x=Axis(title=x), y=Axis(title=group.unit), layers=(layer,), caption=caption
    )


def _device(row: RunRow) -> tuple[str, str]:
    return str(row.get("host", "")), str(row.get("device", ""))


def _device_names(rows: Sequence[RunRow]) -> dict[tuple[str, str], str]:
    """Short names: "GPU 0"; with several hosts, preceded by the name of the host."""
    devices = sorted({_device(row) for row in rows})
    hosts = {host for host, _ in devices}
    names: dict[tuple[str, str], str] = {}
    for host in sorted(hosts):
        for index, pair in enumerate(pair for pair in devices if pair[0] == host):
            device = f"GPU {index}" if pair[1] else ""
            names[pair] = " ".join(filter(None, (host if len(hosts) > 1 else "", device)))
    return names
