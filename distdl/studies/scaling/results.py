"""Results of study `scaling`: one value per training, and laws fitted to several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distdl.core.files import read_rows
from distdl.core.run_files import METRICS
from distdl.perf.speed.amdahl import AmdahlFit, fit_amdahl
from distdl.studies.base import Outcome
from distdl.studies.runner import trial_lock as claim


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """One training."""

    workers: int
    strategy: str
    seed: int
    device: str
    first_epoch_s: float
    epoch_s: float
    """Mean over the later epochs; the first epoch if there is no other."""
    train_s: float
    """All epochs, without evaluation and start-up."""
    images_per_s: float
    """Throughput in the later epochs."""
    exposed: float
    """Share of the time of the later epochs that is exposed communication."""
    accuracy: float
    loss: float
    curve: tuple[tuple[float, float, float], ...]
    """Epoch, test accuracy, test loss."""
    oversubscribed: bool
    """Whether its workers shared cores: its times then do not measure scaling."""
    resumed: bool
    """Whether it was interrupted and resumed: its times then include several starts."""

    @property
    def timed(self) -> bool:
        return not self.oversubscribed and not self.resumed


def repeats(outcomes: Iterable[Outcome]) -> list[Repeat]:
    """Results of the completed trainings."""
    return [_repeat(outcome) for outcome in outcomes if outcome.completed]


def _repeat(outcome: Outcome) -> Repeat:
    labels, result = outcome.trial.labels, outcome.result
    rows = list(read_rows(outcome.folder / METRICS))
    # The last training row of an epoch is written at its end, before the evaluation.
    ends = {row["epoch"]: row for row in rows if row["kind"] == "train" and float(row["epoch"]).is_integer()}
    times = [0.0, *(ends[epoch]["time_s"] for epoch in sorted(ends))]
    exchange = [0.0, *(ends[epoch]["phases_s"]["exchange"] for epoch in sorted(ends))]
    first = 1 if len(times) > 2 else 0
    epochs, spent = len(times) - 1 - first, times[-1] - times[first]
    tested = [row for row in rows if row["kind"] == "test"]
    on_cpu = result["device"] == "cpu"
    given = claim.read(outcome.folder).given_cores
    return Repeat(
        workers=int(labels["workers"]),
        strategy=str(labels["strategy"]),
        seed=int(labels["seed"]),
        device=result["device"],
        first_epoch_s=times[1],
        epoch_s=spent / epochs,
        train_s=result["train_s"],
        images_per_s=result["images"] / result["epochs"] * epochs / spent,
        exposed=(exchange[-1] - exchange[first]) / spent,
        accuracy=result["test"]["accuracy"],
        loss=result["test"]["loss"],
        curve=tuple((row["epoch"], row["accuracy"], row["loss"]) for row in tested),
        oversubscribed=on_cpu and given < outcome.trial.cores,
        resumed=result["resumes"] > 0,
    )


def speed_ups(measured: Sequence[Repeat], same_point: Sequence[Repeat]) -> list[float]:
    """Epoch time of one worker divided by that of several, for each seed: both were measured in the same round."""
    base_s = {repeat.seed: repeat.epoch_s for repeat in measured if repeat.workers == 1}
    return [base_s[repeat.seed] / repeat.epoch_s for repeat in same_point if repeat.seed in base_s]


def karp_flatt(speed_up: float, workers: int) -> float:
    """Experimentally determined serial fraction (Karp and Flatt 1990, Eq. 2) from the speed-up on several workers."""
    return (1 / speed_up - 1 / workers) / (1 - 1 / workers)


def amdahl(measured: Sequence[Repeat]) -> AmdahlFit | None:
    """Fit Amdahl's law to the epoch times of trainings that did not share cores.

    Returns:
        The fit, or None with fewer than two distinct numbers of workers.
    """
    timed = [repeat for repeat in measured if repeat.timed]
    workers = np.array([repeat.workers for repeat in timed], dtype=float)
    return fit_amdahl(workers, np.array([repeat.epoch_s for repeat in timed]))
