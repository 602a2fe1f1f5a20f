"""A clock that only a test advances, in the place of the module `time` of one module."""

import pytest


class SimulatedTime:
    """Seconds since the start of the test, for all clocks of Python's `time`. A sleep only advances it."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    perf_counter = time = thread_time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    advance = sleep


def simulate_time(monkeypatch: pytest.MonkeyPatch, *modules: object) -> SimulatedTime:
    """Give these modules, which `import time`, a simulated clock."""
    clock = SimulatedTime()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
