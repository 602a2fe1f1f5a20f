"""A small training, run once for the targets that damage its files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from distdl.core.errors import UserError

RUN = "run"
ARGV = ("--data.limit", "64", "--epochs", "2", "--log-every-s", "0", "--progress", "none", "--model.name", "softmax")
BATCH = ("--data.batch-size", "32")


def train(folder: Path) -> Path:
    """Train four steps with two checkpoints. Returns the run folder."""
    command = [sys.executable, "-m", "distdl.train", *ARGV, *BATCH, "--telemetry.hz", "0", "--out", str(folder / RUN)]
    subprocess.run(command, check=True)
    return folder / RUN


def each(*readers: Callable[[], object]) -> None:
    """Call every reader; raises the first refusal after all of them."""
    refusals = []
    for reader in readers:
        try:
            reader()
        except UserError as error:
            assert "\n" not in str(error), f"several lines: {error}"
            refusals.append(error)
    if refusals:
        raise refusals[0]
