"""A reducing barrier between worker threads: the last to arrive reduces, all receive the result."""

import threading
from collections.abc import Callable
from typing import Any


class ReducingBarrier:
    """A reusable barrier of all live workers. It no longer waits for a worker that was removed from `alive`."""

    def __init__(self, condition: threading.Condition, alive: set[int]) -> None:
        self._condition, self._living = condition, alive
        self._values: dict[int, Any] = {}
        self._completed, self._result = 0, None

    def reduce(self, worker: int, value: Any, combine: Callable[[dict[int, Any]], Any]) -> Any:
        """Add a worker's value, wait for the others, and return `combine` of all values by worker."""
        with self._condition:
            completed = self._completed
            self._values[worker], self._combine = value, combine
            self.complete_if_all_arrived()
            self._condition.wait_for(lambda: self._completed > completed)
            return self._result

    def complete_if_all_arrived(self) -> None:
        """Reduce if all workers have arrived. Called with the condition held, on arrival and after a removal."""
        if self._values and self._living <= set(self._values):
            self._result = self._combine(dict(self._values))
            self._values.clear()
            self._completed += 1
            self._condition.notify_all()
