"""Time of a step by phase: data, transfer, forward, backward, exchange, update.

On a CPU a moment is a `perf_counter` reading. On a GPU it is a CUDA event in the stream: the clock never waits for the
device, and reads times after the events have completed.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from distdl.core.phases import PHASES


class Clock:
    """Sums seconds by phase. `with clock("forward"): ...` times a block, `clock.over("data", loader)` each `next`."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.excluded_s: dict[str, float] = {}
        """Seconds that are not training, by purpose."""
        self._lap_start = time.perf_counter()
        self._cuda = device is not None and device.type == "cuda"
        self._pending: deque[tuple[Any, Any, str, str | None]] = deque()
        # One context per phase, reused, so that entering it allocates nothing.
        self._phases: dict[str, _Phase] = {name: _Phase(self, name) for name in PHASES}

    def __call__(self, phase: str) -> "_Phase":
        return self._phases[phase]

    def now(self) -> Any:
        """Return the current moment of the device; pass it to `add_since`."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def add_since(self, phase: str, moment: Any, out_of: str | None = None) -> None:
        """Add the time since `moment` to `phase`, and subtract it from the enclosing phase `out_of`."""
        if self._cuda:
            self._pending.append((moment, self.now(), phase, out_of))
        else:
            self.add(phase, time.perf_counter() - moment, out_of)

    def over(self, phase: str, items: Iterable[Any]) -> Iterator[Any]:
        """Yield from `items`; the host's time of each `next` is added to `phase`."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds[phase] += time.perf_counter() - start
            yield item

    def lap(self) -> float:
        """Return the host's seconds since the previous lap, without excluded ones."""
        previous, self._lap_start = self._lap_start, time.perf_counter()
        return self._lap_start - previous

    @contextmanager
    def excluded(self, purpose: str) -> Iterator[None]:
        """Exclude the time of the block, which is not training, from laps, and add it to `excluded_s`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed_s = time.perf_counter() - start
            self.excluded_s[purpose] = self.excluded_s.get(purpose, 0.0) + elapsed_s
            self._lap_start += elapsed_s

    def read(self) -> dict[str, float]:
        """Return the seconds by phase so far; on a GPU, only of work that the device has finished."""
        while self._pending and self._pending[0][1].query():
            start, end, phase, out_of = self._pending.popleft()
            self.add(phase, start.elapsed_time(end) / 1e3, out_of)
        return dict(self.seconds)

    def add(self, phase: str, seconds: float, out_of: str | None = None) -> None:
        """Add seconds measured elsewhere to `phase`, and subtract them from the enclosing phase `out_of`."""
        self.seconds[phase] += seconds
        if out_of:
            self.seconds[out_of] -= seconds


class _Phase:
    """Context manager of one phase. It is not reentrant: a phase cannot contain itself."""

    __slots__ = ("_clock", "_name", "_start")

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self._name, self._start = clock, name, None

    def __enter__(self) -> None:
        self._start = self._clock.now()

    def __exit__(self, *error: object) -> None:
        self._clock.add_since(self._name, self._start)
