"""Signals that stop a training."""

import contextlib
import signal
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""Launchers and schedulers send SIGTERM; SIGUSR2 is Slurm's early warning (NCCL takes SIGUSR1); SIGINT is Ctrl-C."""


@contextlib.contextmanager
def restored_signals() -> Iterator[None]:
    """Restore the handlers of `SIGNALS` at the end: for a training inside a program that continues."""
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) != handler:  # only the main thread may set one, and only there it changes
                signal.signal(number, handler)
