"""Ctrl-C while modules are imported. Imports only modules that Python has already loaded, and is imported first."""

import os
import signal
from types import FrameType, TracebackType

EXIT = 128 + signal.SIGINT


class Importing:
    """Context in which Ctrl-C ends the process at once, with one line.

    As an exception it would be raised in the middle of an import: with a traceback before the command has started, and
    in an extension module as a different error. Nothing has been started then that would need cleanup.
    """

    def __enter__(self) -> None:
        self._is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_default:
            try:
                signal.signal(signal.SIGINT, _leave)
            except ValueError:  # not in the main thread
                self._is_default = False

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(EXIT)
