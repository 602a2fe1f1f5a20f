"""When ranks agree on whether to stop."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from distdl.config import Config
from distdl.stop import LOOK_EVERY_S, Stop
from distdl.strategies.base import Strategy


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop(Strategy(Config()), max_time=0)
    yield made
    made.close()


def test_a_run_that_was_resumed_late_looks_again_at_its_next_step(stop: Stop) -> None:
    """Not after as many steps as would go into a quarter of a second, had all those before it just been made."""
    assert stop.due(1_000_000)
    assert not stop.agreed(1_000_000)
    assert stop.due(1_000_001)


def test_looks_are_some_time_apart_and_not_every_step(stop: Stop) -> None:
    looks, began, step = 0, time.monotonic(), 5000
    while time.monotonic() < began + 4 * LOOK_EVERY_S:
        time.sleep(0.005)
        step += 1
        if stop.due(step):
            stop.agreed(step)
            looks += 1
    assert 2 <= looks <= 12  # four, and one or two to learn how long a step takes; a busy machine has fewer or more


def test_a_signal_is_heeded_at_the_next_look(stop: Stop) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.agreed(3)
    assert stop.reason == "SIGTERM"
