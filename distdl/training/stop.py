"""Requests for a graceful stop of this rank: a signal or the time limit. `consensus.py` combines those of all ranks."""

import math
import signal
import time
from types import FrameType

from distdl.runtime.signals import SIGNALS


class StopSignal:
    """The reason for which this rank should stop, if any. Handles the signals until `close`.

    Args:
        max_time: seconds after which to stop; 0 means no limit.
    """

    def __init__(self, *, max_time: float = 0.0) -> None:
        self._deadline = time.monotonic() + max_time if max_time else math.inf
        self.reason = ""
        """Name of the signal, or "max_time"; empty until there is a reason."""
        self._is_saved = False
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_saved:
            return
        if number == signal.SIGINT and self.reason:
            raise KeyboardInterrupt  # a second Ctrl-C ends the process at once
        self.reason = signal.Signals(number).name

    def is_requested(self) -> bool:
        """Whether a signal was received or the time limit is reached."""
        if not self.reason and time.monotonic() > self._deadline:
            self.reason = "max_time"
        return bool(self.reason)

    def ignore(self) -> None:
        """Ignore all further signals: the state is saved, and the process only has to exit with its code.

        Python resets other handlers than SIG_IGN while it ends, and a signal would then replace the exit code.
        """
        self._is_saved = True  # first: a signal may have arrived whose handler has not run yet
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)

    def close(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
