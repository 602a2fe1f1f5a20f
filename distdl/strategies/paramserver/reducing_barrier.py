"""Where the workers' threads meet: each brings a value, the last to come combines them, and all get the outcome."""

import threading
from collections.abc import Callable
from typing import Any


class Meeting:
    """A meeting of all living workers, over and over. A worker that dies is no longer waited for."""

    def __init__(self, condition: threading.Condition, living: set[int]) -> None:
        self._condition, self._living = condition, living
        self._values: dict[int, Any] = {}
        self._held, self._outcome = 0, None

    def meet(self, worker: int, value: Any, combine: Callable[[dict[int, Any]], Any]) -> Any:
        """Bring a value; return what `combine` makes of all of them, by worker."""
        with self._condition:
            number = self._held
            self._values[worker], self._combine = value, combine
            self.settle()
            self._condition.wait_for(lambda: self._held > number)
            return self._outcome

    def settle(self) -> None:
        """Hold the meeting if nobody is missing. Called with the condition held: on arrival, and when one has left."""
        if self._values and self._living <= set(self._values):
            self._outcome = self._combine(dict(self._values))
            self._values.clear()
            self._held += 1
            self._condition.notify_all()
