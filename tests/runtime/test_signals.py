"""Signals that ask a training to stop; each is delivered in tests/training/test_stop.py."""

import signal

from distdl.runtime.signals import SIGNALS


def test_launchers_schedulers_and_terminals_can_stop_a_training() -> None:
    assert {*SIGNALS} == {signal.SIGTERM, signal.SIGUSR2, signal.SIGINT}
    assert signal.SIGUSR1 not in SIGNALS, "NCCL takes it"
