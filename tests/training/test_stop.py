"""When ranks agree on whether to stop."""

import math
import os
import signal
import time
from collections.abc import Iterator

import pytest
import torch

from distdl.core.config import Config
from distdl.core.errors import Failure
from distdl.strategies.single import Single
from distdl.training.stop import LOOK_EVERY_S, Stop, first_nonfinite


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop(Single(Config()), max_time=0)
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


def test_the_first_loss_that_is_not_a_number_is_named(stop: Stop) -> None:
    for step, loss in enumerate([1.0, math.inf, 2.0, math.nan], start=7):
        stop.watch(torch.tensor(loss), step)
    with pytest.raises(Failure, match="the loss of step 8 is not a finite number"):
        stop.check()
    stop.other_weights()
    stop.check()


def test_on_a_device_the_first_such_step_is_kept_without_reading_the_loss() -> None:
    """The branch of other devices, on tensors of a CPU."""
    first = torch.tensor(-math.inf)
    for step, loss in enumerate([1.0, math.nan, 2.0, math.inf], start=7):
        first = first_nonfinite(first, torch.tensor(loss), step)
    assert float(first) == -8


def test_a_signal_is_heeded_at_the_next_look(stop: Stop) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.agreed(3)
    assert stop.reason == "SIGTERM"
