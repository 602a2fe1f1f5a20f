"""A training that waits until its test has sent it a signal, so that none comes too late."""

import os
import time
from pathlib import Path
from typing import Any

from distdl.cli import train
from distdl.training.consensus import INTERVAL_S
from distdl.training.events import Callback

FREE_STEPS = 3
"""Steps before it waits."""
LEAST_S = INTERVAL_S / 25
"""Least duration of a step. The ranks agree to stop at most 25 steps after the signal, on machines of any speed."""


def until_told(argv: list[str]) -> int:
    """Runs in a rank instead of `distdl.cli.train.main`. Rank 0 waits; rank 1 then waits for it in an all-reduce."""
    told = _file(Path(argv[argv.index("--out") + 1]))
    told.unlink(missing_ok=True)
    return train.main(argv, (_Hold(told),) if os.environ["RANK"] == "0" else ())


def tell(run: Path) -> None:
    """Let the ranks that train in `run` continue."""
    _file(run).touch()


def _file(run: Path) -> Path:
    return run.with_name(f"{run.name}-told")


class _Hold(Callback):
    def __init__(self, told: Path) -> None:
        self._told = told
        self._steps = 0

    def step_end(self, trainer: Any, loss: Any) -> None:
        self._steps += 1
        time.sleep(LEAST_S)
        while self._steps >= FREE_STEPS and not self._told.exists():
            time.sleep(LEAST_S)
