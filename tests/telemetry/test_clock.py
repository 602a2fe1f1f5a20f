"""The clock's arithmetic, on a time that the tests move; its own cost is benchmarks/overhead.py's question."""

from collections.abc import Iterator

import pytest

from distdl.telemetry import clock as module
from distdl.telemetry.clock import PHASES, Clock


class Time:
    """`time` that passes only when the test advances it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    stopped = Time()
    monkeypatch.setattr(module, "time", stopped)
    return stopped


def test_phases_add_up(time: Time) -> None:
    clock = Clock()
    for _ in range(3):
        with clock("forward"):
            time.pass_by(2)
        time.pass_by(100)
    with clock("update"):
        pass
    assert clock.read() == dict.fromkeys(PHASES, 0.0) | {"forward": 6.0}


def test_over_times_the_wait_for_each_item_and_not_what_is_done_with_it(time: Time) -> None:
    def slow() -> Iterator[int]:
        for item in range(3):
            time.pass_by(1)
            yield item
        time.pass_by(1)  # finding out that there is no more is waiting too

    clock = Clock()
    for _ in clock.over("data", slow()):
        time.pass_by(50)
    assert clock.read()["data"] == 4


def test_a_phase_inside_another_is_taken_out_of_it(time: Time) -> None:
    clock = Clock()
    with clock("backward"):
        time.pass_by(3)
        ready = clock.now()
        time.pass_by(2)
        clock.add_since("exchange", ready, out_of="backward")
    assert (clock.read()["backward"], clock.read()["exchange"]) == (3, 2)
    clock.add("transfer", 1, out_of="backward")
    assert (clock.read()["backward"], clock.read()["transfer"]) == (2, 1)


def test_an_error_inside_a_phase_passes_through(time: Time) -> None:
    clock = Clock()
    with pytest.raises(ValueError), clock("forward"):
        time.pass_by(1)
        raise ValueError
    assert clock.read()["forward"] == 1


def test_real_time_passes() -> None:
    clock = Clock()
    with clock("forward"):
        sum(range(100_000))
    assert 0 < clock.read()["forward"] < 60


def test_a_lap_has_no_time_that_was_excluded(time: Time) -> None:
    clock = Clock()
    clock.excluded_s["evaluate"] = 10.0
    time.pass_by(1)
    with clock.excluded("evaluate"):
        time.pass_by(5)
    time.pass_by(2)
    assert clock.lap() == 3.0
    with pytest.raises(KeyError), clock.excluded("checkpoint"):
        time.pass_by(7)
        raise KeyError
    assert clock.lap() == 0.0
    assert clock.excluded_s == {"evaluate": 15.0, "checkpoint": 7.0}
