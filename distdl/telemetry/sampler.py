"""A thread that samples devices and the host at a constant rate during training."""

import platform
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from distdl.core import flock
from distdl.core.errors import reason
from distdl.core.names import as_name
from distdl.core.text import print_line
from distdl.telemetry.nvml import Lost


class TelemetrySource(Protocol):
    """A source of samples, such as `telemetry.nvml.NvmlDevice` and `telemetry.host.HostCounters`."""

    kind: str
    """Value of `kind` in its rows."""
    shortest_s: float
    """Shortest interval between two samples, in seconds."""

    def sample(self) -> dict[str, Any]:
        """Read the current values by name."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class Sampler:
    """Samples each source `hz` times per second, or as often as the source allows, from `start` to `stop`.

    Rows are {time_s, step, epoch, kind, ...}; time_s is Unix time. A source that fails is removed, with the reason in
    `error` of its last row, so that telemetry never ends a training. `seconds` is the CPU time used for sampling.

    Args:
        sources: read in this order, on the sampler's thread; closed by `stop`.
        write: receives each row; called on the sampler's thread.
        progress: returns the current (step, epoch) of the training.
        hz: sampling rate, above 0 and at most 10 per second.
        labels: fields added to each row, such as `rank` and `host`.
    Raises:
        ValueError: `hz` is out of range.
    """

    def __init__(
        self,
        sources: Sequence[TelemetrySource],
        write: Callable[[dict[str, Any]], None],
        progress: Callable[[], tuple[int, int]],
        hz: float = 1.0,
        labels: dict[str, Any] | None = None,
    ) -> None:
        if not 0 < hz <= 10:
            raise ValueError(f"the sampling rate must be above 0 and at most 10 per second, not {hz:g}")
        self._sources, self._write, self._progress = list(sources), write, progress
        self._period_s, self._labels = 1 / hz, labels or {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distdl-telemetry", daemon=True)
        self.seconds = 0.0

    def start(self) -> None:
        """Begin sampling."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take the last sample, end the thread and close the sources. Waits at most `timeout_s`.

        A driver call that hangs blocks only its daemon thread.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._rounds()
        except OSError as error:  # raised by `write`, for example because the disk is full
            print_line(f"warning: telemetry has ended: {reason(error)}", to_stderr=True)
        finally:
            for source in self._sources:
                source.close()

    def _rounds(self) -> None:
        due = time.monotonic()
        next_s: dict[TelemetrySource, float] = {}
        while True:
            last = self._stop.is_set()
            start = time.thread_time()
            for source in tuple(self._sources):
                if last or due > next_s.get(source, 0.0) - self._period_s / 2:
                    next_s[source] = due + source.shortest_s
                    self._sample(source)
            self.seconds += time.thread_time() - start
            if last:
                return
            # Based on the clock, so that the rate is constant; missed samples are skipped.
            due = max(due + self._period_s, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _sample(self, source: TelemetrySource) -> None:
        step, epoch = self._progress()
        row = {"time_s": time.time(), "step": step, "epoch": epoch, "kind": source.kind, **self._labels}
        try:
            row |= source.sample()
        except Exception as error:
            self._sources.remove(source)
            uuid = getattr(source, "uuid", None)  # of a GPU
            row |= {"device": uuid} if uuid else {}
            row["error"] = f"lost: {error}" if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
            source.close()
        self._write(row)


class SamplerClaim:
    """The lock on the sampling of one source, so that one process per host samples it; see `claim`."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file, self._descriptor = file, descriptor

    def release(self) -> None:
        """Release the lock, and remove its file."""
        self._file.unlink(missing_ok=True)
        flock.release(self._descriptor)


def claim(run: Path, name: str) -> SamplerClaim | None:
    """Lock the sampling of `name` in a run folder on this host. Returns None if another process has the lock.

    The lock is a file of the run folder that other users cannot open. The kernel releases it when the process ends in
    any way; the next start removes a file that a kill left.

    Raises:
        OSError, UserError: as `flock.acquire`.
    """
    file = run / f"telemetry-{as_name(platform.node())}-{as_name(name)}.lock"
    descriptor = flock.try_acquire(file, 0o600)
    return None if descriptor is None else SamplerClaim(file, descriptor)
