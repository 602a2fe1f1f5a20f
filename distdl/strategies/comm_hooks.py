"""Communication hooks for DistributedDataParallel: measurement of exposed communication, and a single exchange."""

from collections.abc import Callable
from typing import Any

import torch

from distdl.runtime.torch_private import GradBucket
from distdl.strategies.shared_memory import SharedMemory
from distdl.telemetry.clock import Clock

Future = torch.futures.Future[torch.Tensor]
Hook = Callable[[Any, GradBucket], Future]


class ExposedExchange:
    """Records the exposed communication: the time from when the last bucket is ready until backward returns.

    Earlier buckets are exchanged while backward computes. When the last bucket is ready, backward has nothing left to
    compute and only waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_ready: Any = None

    def around(self, hook: Hook) -> Hook:
        """Return a hook that calls `hook` and marks when the last bucket is ready."""

        def timed(state: Any, bucket: GradBucket) -> Future:
            if bucket.is_last():
                self._last_ready = self._clock.now()
            return hook(state, bucket)

        return timed

    def end(self) -> None:
        """Record the time. Called when backward has returned."""
        if self._last_ready is not None:
            self._clock.add_since("exchange", self._last_ready, out_of="backward")
            self._last_ready = None


class AllAtOnce:
    """Averages all buckets when the last one is ready, so that ranks wait for each other once per step.

    On a host without GPUs an overlapping exchange of the earlier buckets would use the cores that compute.
    """

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._waiting: list[tuple[torch.Tensor, Future]] = []

    def __call__(self, _state: Any, bucket: GradBucket) -> Future:
        future: Future = torch.futures.Future()
        self._waiting.append((bucket.buffer(), future))
        if bucket.is_last():
            waiting, self._waiting = self._waiting, []
            self._memory.average([gradients for gradients, _ in waiting])
            for gradients, done in waiting:
                done.set_result(gradients)
        return future
