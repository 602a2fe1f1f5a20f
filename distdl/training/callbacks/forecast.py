"""Forecast of the time until a running training reaches its target, for the display and metrics.jsonl."""

import math

from distdl.core.files import read_rows
from distdl.core.format import duration
from distdl.core.run_files import METRICS
from distdl.training.callbacks.metrics import write_row
from distdl.training.events import Callback, Training


class Forecast(Callback):
    """Predicts the time until the evaluated accuracy reaches `predict.target`, with a 95 % interval, on rank 0.

    `text` is the forecast for the display, empty until there is one.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.text = ""

    def begin(self, trainer: Training) -> None:
        from distdl.perf.learning.remaining import Remaining

        self._remaining = Remaining(self.target, of="accuracy")
        self._reached = False
        for row in read_rows(trainer.run.path / METRICS):  # evaluations before a resume
            if row["kind"] in ("validation", "test"):
                self._record(row["step"], row["accuracy"], lr=None)

    def _record(self, step: int, accuracy: float, lr: float | None) -> None:
        self._reached = self._reached or accuracy >= self.target
        self._remaining.update(step, accuracy, lr=lr)

    def evaluate_end(self, trainer: Training, split: str, metrics: dict[str, float]) -> None:
        progress = trainer.progress
        self._record(progress.step, metrics["accuracy"], lr=trainer.optimizer.param_groups[0]["lr"])
        if self._reached:
            self.text = f"{self.target:.2%} reached"
            return
        interval = self._remaining.remaining()
        if interval is None or not progress.step:
            return
        step_s = progress.elapsed_s / progress.step
        low, middle, high = (steps * step_s for steps in interval)
        self.text = f"{self.target:.2%} in {duration(middle)} ({duration(low)} to {duration(high)})"
        row = {"target": self.target, "low_s": low, "middle_s": middle, "high_s": high}
        # JSON has no infinity: null if the target may never be reached.
        write_row(trainer, "forecast", {k: v if math.isfinite(v) else None for k, v in row.items()})
