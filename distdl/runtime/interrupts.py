"""Ctrl-C while modules are imported. Imports only what Python has loaded already: it comes before all other modules."""

import os
import signal
from types import FrameType, TracebackType

EXIT = 128 + signal.SIGINT


class Importing:
    """Within it Ctrl-C ends the process at once, in one line.

    As an exception it would come out of the middle of an import: a traceback before a command has begun, and from
    within an extension module another error altogether. Nothing has been begun then that would need an end.
    """

    def __enter__(self) -> None:
        self._ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            try:
                signal.signal(signal.SIGINT, _leave)
            except ValueError:  # not in the main thread
                self._ours = False

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(EXIT)
