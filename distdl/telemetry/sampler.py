"""A thread that reads devices and the host at a steady rate, beside the training and never in its way."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Protocol

from distdl.core.errors import reason
from distdl.telemetry.nvml import Lost


class Source(Protocol):
    """What can be sampled: `telemetry.nvml.Device`, `telemetry.host.Host`."""

    kind: str
    shortest_s: float
    """It is sampled no more often than this."""

    def sample(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Sampler:
    """Take a row from each source `hz` times per second, or as often as it allows, first at start and last at stop.

    Rows are {time_s, step, epoch, kind, ...}, time_s being Unix time. A source that fails is dropped, and its last row
    says so in `error`: what watches the training does not end it. `seconds` is the CPU time that sampling took.

    Args:
        sources: read in this order, on the sampler's thread; closed by `stop`.
        write: takes each row; called on the sampler's thread.
        progress: gives the training's (step, epoch) at any time.
        labels: goes into each row, as `rank` and `host` do.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        write: Callable[[dict[str, Any]], None],
        progress: Callable[[], tuple[int, int]],
        hz: float = 1.0,
        labels: dict[str, Any] | None = None,
    ) -> None:
        if not 0 < hz <= 10:
            raise ValueError(f"samples are taken up to 10 times a second, not {hz:g}")
        self._sources, self._write, self._progress = list(sources), write, progress
        self._period_s, self._labels = 1 / hz, labels or {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distdl-telemetry", daemon=True)
        self.seconds = 0.0

    def start(self) -> None:
        """Begin sampling."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take the last sample, end the thread and close the sources. Does not wait longer than `timeout_s`.

        A driver call that hangs keeps its daemon thread, and nothing else.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._rounds()
        except OSError as error:  # of `write`: a full disk, for one
            print(f"warning: telemetry has ended: {reason(error)}", file=sys.stderr)
        finally:
            for source in self._sources:
                source.close()

    def _rounds(self) -> None:
        due = time.monotonic()
        next_s: dict[Source, float] = {}
        while True:
            last = self._stop.is_set()
            began = time.thread_time()
            for source in tuple(self._sources):
                if last or due > next_s.get(source, 0.0) - self._period_s / 2:
                    next_s[source] = due + source.shortest_s
                    self._take(source)
            self.seconds += time.thread_time() - began
            if last:
                return
            # Against the clock, not after the work, so that the rate holds; what was missed is not made up.
            due = max(due + self._period_s, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _take(self, source: Source) -> None:
        step, epoch = self._progress()
        row = {"time_s": time.time(), "step": step, "epoch": epoch, "kind": source.kind, **self._labels}
        try:
            row |= source.sample()
        except Exception as error:
            self._sources.remove(source)
            lost = f"lost: {error}" if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
            row |= {"device": source.uuid} if hasattr(source, "uuid") else {}
            row["error"] = lost
            source.close()
        self._write(row)


def claim(run: str, name: str) -> socket.socket | None:
    """The right to sample `name` for `run`, which one process of a host has: keep the socket while sampling.

    None when another process has it. An abstract Unix socket is a lock that leaves no file behind and that the kernel
    takes back however the process ends.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(b"\0distdl-" + sha256(f"{run}\n{name}".encode()).hexdigest().encode())
    except OSError:
        lock.close()
        return None
    return lock
