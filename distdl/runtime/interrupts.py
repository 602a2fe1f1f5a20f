"""Ctrl-C while modules are imported. Imports only modules that Python has already loaded, and is imported first."""

import os
import signal
from types import FrameType, TracebackType

EXIT = 128 + signal.SIGINT


class Importing:
    """Context in which Ctrl-C ends the process immediately, with one line.

    A KeyboardInterrupt would be raised in the middle of an import: it would cause a traceback before the command has
    started, and another error in an extension module. Nothing has been started yet that would need cleanup.
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
    if os.environ.get("RANK", "0") == "0":  # torchrun interrupts all its ranks: one line is enough
        os.write(2, b"error: interrupted\n")
    os._exit(EXIT)
