"""A training that pauses until its test releases it, so that a signal of the test is never too late."""

import os
import time
from pathlib import Path
from typing import Any

from distdl.cli import train
from distdl.training.consensus import INTERVAL_S
from distdl.training.events import Callback

STEPS_BEFORE_PAUSE = 3
LEAST_S = INTERVAL_S / 25
"""Least duration of a step. The ranks agree to stop at most 25 steps after the signal, on machines of any speed."""


def main(argv: list[str]) -> int:
    """Replaces `distdl.cli.train.main` in a rank. Rank 0 pauses; rank 1 then waits for it in an all-reduce."""
    released = _release_file(Path(argv[argv.index("--out") + 1]))
    released.unlink(missing_ok=True)
    return train.main(argv, (_Pause(released),) if os.environ["RANK"] == "0" else ())


def release(run: Path) -> None:
    """Let the ranks that train in `run` continue."""
    _release_file(run).touch()


def _release_file(run: Path) -> Path:
    return run.with_name(f"{run.name}-released")


class _Pause(Callback):
    def __init__(self, released: Path) -> None:
        self._released = released
        self._steps = 0

    def step_end(self, trainer: Any, loss: Any) -> None:
        self._steps += 1
        time.sleep(LEAST_S)
        while self._steps >= STEPS_BEFORE_PAUSE and not self._released.exists():
            time.sleep(LEAST_S)
