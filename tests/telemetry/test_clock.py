"""The step clock, with simulated time of the host and of a GPU. benchmarks/overhead.py measures its cost."""

from collections.abc import Iterator

import pytest

from distdl.telemetry import clock as module
from distdl.telemetry.clock import PHASES, Clock
from gpu_fake import CUDA, Gpu, simulate_gpu
from simulated_time import SimulatedTime, simulate_time


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    return simulate_time(monkeypatch, module)


def test_phases_add_up(time: SimulatedTime) -> None:
    clock = Clock()
    for _ in range(3):
        with clock("forward"):
            time.advance(2)
        time.advance(100)
    with clock("update"):
        pass
    assert clock.read() == dict.fromkeys(PHASES, 0.0) | {"forward": 6.0}


def test_over_measures_only_the_wait_for_each_item(time: SimulatedTime) -> None:
    def slow() -> Iterator[int]:
        for item in range(3):
            time.advance(1)
            yield item
        time.advance(1)  # the wait for the end of the iterator counts too

    clock = Clock()
    for _ in clock.over("data", slow()):
        time.advance(50)
    assert clock.read()["data"] == 4


def test_a_nested_phase_is_subtracted_from_the_outer_one(time: SimulatedTime) -> None:
    clock = Clock()
    with clock("backward"):
        time.advance(3)
        ready = clock.now()
        time.advance(2)
        clock.add_since("exchange", ready, out_of="backward")
    assert (clock.read()["backward"], clock.read()["exchange"]) == (3, 2)
    clock.add("transfer", 1, out_of="backward")
    assert (clock.read()["backward"], clock.read()["transfer"]) == (2, 1)


def test_an_error_inside_a_phase_is_raised(time: SimulatedTime) -> None:
    clock = Clock()
    with pytest.raises(ValueError), clock("forward"):
        time.advance(1)
        raise ValueError
    assert clock.read()["forward"] == 1


def test_a_lap_does_not_include_excluded_time(time: SimulatedTime) -> None:
    clock = Clock()
    clock.excluded_s["evaluate"] = 10.0
    time.advance(1)
    with clock.excluded("evaluate"):
        time.advance(5)
    time.advance(2)
    assert clock.lap() == 3.0
    with pytest.raises(KeyError), clock.excluded("checkpoint"):
        time.advance(7)
        raise KeyError
    assert clock.lap() == 0.0
    assert clock.excluded_s == {"evaluate": 15.0, "checkpoint": 7.0}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return simulate_gpu(monkeypatch)


def test_phases_of_a_gpu_are_read_when_its_work_is_done(gpu: Gpu) -> None:
    """The device works behind the host. The clock never waits for it."""
    clock = Clock(CUDA)
    for _ in range(2):
        with clock("forward"):
            gpu.queue(0.5)
        with clock("backward"):
            gpu.queue(1.25)
    assert clock.read() == dict.fromkeys(PHASES, 0.0)
    gpu.run(1.0)  # in the first backward pass
    assert clock.read() == dict.fromkeys(PHASES, 0.0) | {"forward": 0.5}
    gpu.run(1.25)
    assert clock.read() == dict.fromkeys(PHASES, 0.0) | {"forward": 1.0, "backward": 1.25}
    gpu.run(9.0)
    assert clock.read() == clock.read() == dict.fromkeys(PHASES, 0.0) | {"forward": 1.0, "backward": 2.5}
    assert gpu.waits == 0


def test_a_nested_phase_of_a_gpu_is_subtracted_from_the_outer_one(gpu: Gpu) -> None:
    clock = Clock(CUDA)
    with clock("backward"):
        gpu.queue(3)
        ready = clock.now()
        gpu.queue(2)
        clock.add_since("exchange", ready, out_of="backward")
    gpu.run(5)
    assert clock.read() == dict.fromkeys(PHASES, 0.0) | {"backward": 3.0, "exchange": 2.0}


def test_the_wait_for_data_is_measured_on_the_host_of_a_gpu(gpu: Gpu, time: SimulatedTime) -> None:
    def slow() -> Iterator[int]:
        time.advance(4)
        yield 0

    clock = Clock(CUDA)
    for _ in clock.over("data", slow()):
        gpu.queue(50)
    assert clock.read()["data"] == 4
    assert clock.lap() == 4
