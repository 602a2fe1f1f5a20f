"""Requests to stop: signals and the time limit."""

import os
import signal

import pytest

from distdl.runtime.signals import SIGNALS
from distdl.training.stop import StopSignal


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_requests_a_stop(number: signal.Signals) -> None:
    stop = StopSignal()
    try:
        assert not stop.is_requested()
        os.kill(os.getpid(), number)
        assert stop.is_requested()
        assert stop.reason == number.name
    finally:
        stop.close()


def test_a_second_ctrl_c_interrupts() -> None:
    stop = StopSignal()
    try:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        stop.close()


def test_the_time_limit_requests_a_stop_unless_a_signal_came_first() -> None:
    for first, reason in ((None, "max_time"), (signal.SIGTERM, "SIGTERM")):
        stop = StopSignal(max_time=1e-9)
        try:
            if first is not None:
                signal.raise_signal(first)
            assert stop.is_requested()
            assert stop.reason == reason
        finally:
            stop.close()


def test_close_restores_the_handlers() -> None:
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    stop = StopSignal()
    assert all(signal.getsignal(number) != handler for number, handler in previous.items())
    stop.close()
    assert {number: signal.getsignal(number) for number in SIGNALS} == previous


def test_a_signal_whose_handler_runs_after_the_state_was_saved_changes_nothing() -> None:
    stop = StopSignal()
    try:
        signal.raise_signal(signal.SIGINT)
        stop.ignore()
        stop._on_signal(signal.SIGINT, None)
        stop._on_signal(signal.SIGTERM, None)
        assert stop.reason == "SIGINT"
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    finally:
        stop.close()
