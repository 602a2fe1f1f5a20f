"""Communication hooks of DistributedDataParallel: measure the exposed exchange; exchange all buckets at once."""

from collections.abc import Callable
from typing import Any

import torch

from distdl.runtime.torch_private import GradBucket
from distdl.strategies.shared_memory import SharedMemory
from distdl.telemetry.clock import Clock

Future = torch.futures.Future[torch.Tensor]
Hook = Callable[[Any, GradBucket], Future]


class ExposedExchange:
    """Records the exchange that backward does not hide, from when the last bucket is ready until backward returns.

    Buckets before the last are sent while backward still computes. After the last one nothing is left to compute, so
    the rest of backward is waiting.
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
        """Record the time; called when backward has returned."""
        if self._last_ready is not None:
            self._clock.add_since("exchange", self._last_ready, out_of="backward")
            self._last_ready = None


class AllAtOnce:
    """Averages all buckets when the last one is ready: ranks wait for each other once per step.

    On a host without GPUs the cores that would exchange the earlier buckets in the meantime are those that compute.
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
