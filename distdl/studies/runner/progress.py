"""Display of a running study: a live table on a terminal, otherwise a line per event."""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distdl.core.files import is_row, parse_row
from distdl.core.regular import open_regular
from distdl.core.run_files import METRICS
from distdl.core.text import printable
from distdl.studies.base import Trial
from distdl.studies.runner.run import Runner
from distdl.studies.runner.trial_lock import LOG, Record

COLORS = {"completed": "green", "failed": "red", "running": "bold", "stopped": "yellow", "not started": "yellow"}
ORDER = ("running", "running elsewhere", "failed", "stopped", "not started", "waiting", "completed")
LISTED = ("running", "running elsewhere", "failed", "stopped")
"""States whose trials have a row each; trials in other states are only counted."""
TO_DO = ("running", "running elsewhere", "stopped", "waiting")
OVERHEAD = 6
"""Number of lines of the display in addition to the rows of trials."""


class ProgressDisplay:
    """Displays a runner. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console, self._next = console, 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last: dict[str, str] | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, runner: Runner) -> None:
        now = time.monotonic()
        if now < self._next and self._live:
            return
        self._next = now + 0.5
        states = {trial.name: runner.status(trial) for trial in runner.folder.trials}
        if self._live:
            self._live.update(self._table(runner, states), refresh=True)
        elif states != self._last:
            self._print_changes(runner, states)
        self._last = states

    def _print_changes(self, runner: Runner, states: dict[str, str]) -> None:
        first = self._last is None
        for place, trial in enumerate(runner.folder.trials, start=1):
            state = states[trial.name]
            if state == (self._last or {}).get(trial.name) or (first and state in ("waiting", "completed")):
                continue
            self._console.print(
                f"[{place}/{len(states)}] {trial.name}: {state}{_more(runner, trial, state)}",
                style=COLORS.get(state) if state != "running" else None,
                soft_wrap=True,
            )

    def _table(self, runner: Runner, states: dict[str, str]) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
        table.add_column("trial", overflow="ellipsis", no_wrap=True, max_width=34)
        table.add_column("", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
        count = Counter(states.values())
        line = ", ".join(f"{count[state]} {state}" for state in ORDER if count[state])
        head = f"{runner.folder.study.name}: {line} of {len(states)}{', stopping' if runner.stopping else ''}"
        reasons = Text("\n".join(failures(runner.folder.trials, runner.states)), style=COLORS["failed"])
        lines = reasons.wrap(self._console, self._console.width)
        listed = [trial for trial in runner.folder.trials if states[trial.name] in LISTED]
        listed.sort(key=lambda trial: ORDER.index(states[trial.name]))
        room = max(self._console.height - OVERHEAD - min(len(lines), self._console.height // 2), 3)
        for trial in listed[:room]:
            state, record = states[trial.name], runner.states[trial.name]
            local = runner.running.get(trial.name)
            seconds = record.seconds + (time.monotonic() - local.started_s if local else 0.0)
            colored = Text(state, style=COLORS.get(state, ""))
            note = _progress(runner.folder.folder(trial)) if local else ""
            table.add_row(Text(trial.name), colored, clock(seconds) if seconds else "", Text(note))
        total = progress(states, runner.states, runner.jobs)
        rest = self._console.height - OVERHEAD - min(len(listed), room)
        return Group(Text(head), Text(total), table, Text("\n").join(lines[: max(rest, 3)]))


def progress(states: Mapping[str, str], records: Mapping[str, Record], jobs: int = 1) -> str:
    """Share of completed trials, and the remaining time if the others take as long as these on average.

    Args:
        states: result of `Runner.status` for each trial, by name.
    """
    durations = [records[name].seconds for name, state in states.items() if state == "completed"]
    pending = [records[name] for name, state in states.items() if state in TO_DO]
    remaining = clock(0) if not pending else "-"
    if durations and pending:
        mean = statistics.fmean(durations)
        spent = [
            record.seconds + max(time.time() - record.began, 0) * (record.status == "running") for record in pending
        ]
        remaining = clock(sum(max(mean - seconds, 0) for seconds in spent) / jobs)
    return f"{len(durations) / max(len(states), 1):.0%} done, time left {remaining}"


def failures(trials: Sequence[Trial], records: Mapping[str, Record]) -> list[str]:
    """Return a line for each distinct reason of failure, with the names of the trials."""
    names: dict[str, list[str]] = {}
    for trial in trials:
        if records[trial.name].status == "failed":
            names.setdefault(records[trial.name].reason, []).append(trial.name)
    return [f"failed: {', '.join(failed)}: {printable(reason)}" for reason, failed in names.items()]


def _more(runner: Runner, trial: Trial, state: str) -> str:
    record = runner.states[trial.name]
    if state == "completed":
        return f" in {clock(record.seconds)}"
    if state == "failed":
        return f": {record.reason} ({runner.folder.folder(trial) / LOG})"
    if state == "running" and record.attempts > 1:
        return f", attempt {record.attempts}"
    return ""


def _progress(folder: Path) -> str:
    """Epoch and step of a training, from the last line of its metrics."""
    file = folder / METRICS
    try:
        with open_regular(file) as source:
            source.seek(max(file.stat().st_size - 4096, 0))
            rows = [row for line in source.read().splitlines() if (row := parse_row(line)) is not None and is_row(row)]
    except OSError:
        return ""
    return f"epoch {rows[-1]['epoch']}, step {rows[-1]['step']}" if rows else ""


def clock(seconds: float) -> str:
    """Format a duration: 12.3 s, 4:05 min, 2:10:00 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, pending = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{pending:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{pending:02d} h"
