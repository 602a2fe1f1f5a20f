"""Signals that stop a training; tests/training/test_stop.py sends each of them."""

import signal

from distdl.runtime.signals import SIGNALS, restored_signals


def test_signals_of_launchers_schedulers_and_terminals_stop_a_training() -> None:
    assert {*SIGNALS} == {signal.SIGTERM, signal.SIGUSR2, signal.SIGINT}
    assert signal.SIGUSR1 not in SIGNALS, "NCCL uses it"


def test_handlers_are_restored_after_a_training() -> None:
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    with restored_signals():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in SIGNALS} == earlier
