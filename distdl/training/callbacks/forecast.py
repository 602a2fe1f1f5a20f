"""While a run goes on: when will it meet the target? Shown by the display, and kept as rows of kind "forecast"."""

import math
from typing import TYPE_CHECKING

from distdl.core.files import read_rows
from distdl.core.rundir import METRICS
from distdl.training.callbacks.metrics import write_row
from distdl.training.events import Callback

if TYPE_CHECKING:
    from distdl.training.trainer import Trainer


class Forecast(Callback):
    """Predicts the time until the evaluated accuracy reaches `predict.target`, with a 95 % interval, on rank 0.

    `text` is what the display shows: empty while too little is known.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.text = ""

    def begin(self, trainer: "Trainer") -> None:
        from distdl.perf.learning.remaining import Remaining

        self._remaining = Remaining(self.target, of="accuracy")
        self._met = False
        for row in read_rows(trainer.run.path / METRICS):  # what a resumed run has shown before
            if row["kind"] in ("validation", "test"):
                self._take(row["step"], row["accuracy"], lr=None)

    def _take(self, step: int, accuracy: float, lr: float | None) -> None:
        self._met = self._met or accuracy >= self.target
        self._remaining.update(step, accuracy, lr=lr)

    def evaluate_end(self, trainer: "Trainer", split: str, metrics: dict[str, float]) -> None:
        progress = trainer.progress
        self._take(progress.step, metrics["accuracy"], lr=trainer.optimizer.param_groups[0]["lr"])
        if self._met:
            self.text = f"{self.target:.2%} reached"
            return
        ends = self._remaining.remaining()
        if ends is None or not progress.step:
            return
        step_s = progress.elapsed_s / progress.step
        low, middle, high = (steps * step_s for steps in ends)
        self.text = f"{self.target:.2%} in {duration(middle)} ({duration(low)} to {duration(high)})"
        row = {"target": self.target, "low_s": low, "middle_s": middle, "high_s": high}
        # JSON has no infinity: a time that may never come is null.
        write_row(trainer, "forecast", {k: v if math.isfinite(v) else None for k, v in row.items()})


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3.4 h, never."""
    if not math.isfinite(seconds):
        return "never"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
