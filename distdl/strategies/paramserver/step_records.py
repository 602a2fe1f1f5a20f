"""Records of the steps of a worker: rows of a .jsonl file, and their summary for result.json."""

import json
import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from distdl.core.files import reopen_rows
from distdl.strategies.paramserver.exchange import ExchangeTimes

FLUSH_S = 0.5
WARM_STEPS = 3
"""Number of warm-up steps, which the median duration of a step excludes."""


@dataclass(frozen=True, kw_only=True)
class ComputeTimes:
    """Durations of a step's computation."""

    forward_s: float = 0.0
    backward_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.forward_s + self.backward_s


class StepRecords:
    """Steps of one worker since its start."""

    def __init__(self) -> None:
        self.exchanges: list[ExchangeTimes] = []
        self._steps_s: list[float] = []
        self._last_end_s: float | None = None
        self._stragglers: Counter[int] = Counter()
        self._file: IO[str] | None = None
        self._flushed_s = time.monotonic()

    def open(self, file: Path, step: int) -> None:
        """Append to `file`, whose rows after `step` are removed."""
        self._file = reopen_rows(file, step)

    def add(self, step: int, compute: ComputeTimes, exchange: ExchangeTimes, replayed: bool) -> int | None:
        """Record the step that ends now. Returns a worker that is identified as a straggler for the first time."""
        self.exchanges.append(exchange)
        now_s = time.perf_counter()
        if self._last_end_s is not None:
            self._steps_s.append(now_s - self._last_end_s)
        self._last_end_s = now_s
        self._write({"step": step, **asdict(compute), **asdict(exchange), "replayed": replayed})
        if exchange.straggler < 0:
            return None
        self._stragglers[exchange.straggler] += 1
        return exchange.straggler if self._stragglers[exchange.straggler] == 1 else None

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(row) + "\n")
        if time.monotonic() - self._flushed_s > FLUSH_S:
            self._file.flush()
            self._flushed_s = time.monotonic()

    def summary(self) -> dict[str, Any]:
        """Return median durations, steps by staleness, and steps by straggler."""
        names = ("push_s", "wait_s", "pull_s", "update_s")
        medians = {
            name: statistics.median([getattr(exchange, name) for exchange in self.exchanges] or [0.0]) for name in names
        }
        # The median, because some steps include an evaluation or a checkpoint.
        if steps_s := self._steps_s[WARM_STEPS:] or self._steps_s:
            medians["step_s"] = statistics.median(steps_s)
        staleness = Counter(exchange.staleness for exchange in self.exchanges) or Counter({0: 0})
        return {
            "medians": medians,
            "staleness": dict(sorted(staleness.items())),
            "stragglers": {f"worker {worker}": steps for worker, steps in self._stragglers.most_common()},
        }

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
