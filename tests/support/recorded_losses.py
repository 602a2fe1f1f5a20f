"""Trainings whose losses are recorded as exact bits. As a program it writes the golden file of the installed torch:

python tests/support/recorded_losses.py
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from distdl.cli import train
from distdl.training.events import Callback
from jobs import QUIET, Ranks

GOLDEN = Path(__file__).parents[1] / "training" / "golden"
ARGV = ("--profile", "digits", "--max-steps", "20", "--compute.device", "cpu", *QUIET)
CASES = {"single": 1, "ddp": 2}
"""Ranks by strategy."""


class LossLog(Callback):
    """Writes the loss of each step of this rank, as text of its exact bits, into `file`."""

    def __init__(self, file: Path) -> None:
        self._file, self._losses = file, []

    def step_end(self, trainer: Any, loss: torch.Tensor) -> None:
        self._losses.append(loss.item().hex())

    def close(self, trainer: Any) -> None:
        self._file.write_text(json.dumps(self._losses), encoding="utf-8")


def main(argv: list[str]) -> int:
    """Run `distdl.train` with the log next to the run folder."""
    out = Path(argv[argv.index("--out") + 1])
    return train.main(argv, (LossLog(out.with_name(f"losses-{os.environ.get('RANK', '0')}.json")),))


def losses(folder: Path, ranks: int) -> list[list[str]]:
    """Losses of 20 steps on the CPU, by rank."""
    job = Ranks([*ARGV, "--out", str(folder / "run")], ranks=ranks, main=main)
    assert job.wait(300) == [0] * ranks, job.text
    return [json.loads((folder / f"losses-{rank}.json").read_text(encoding="utf-8")) for rank in range(ranks)]


def platform() -> dict[str, str]:
    """Properties that the bits depend on: the version of torch and the instructions that it uses."""
    return {"torch": torch.__version__.partition("+")[0], "cpu": torch.backends.cpu.get_cpu_capability()}


def golden_file() -> Path:
    return GOLDEN / f"torch-{platform()['torch']}.json"


if __name__ == "__main__":
    recorded: dict[str, Any] = platform()
    for strategy, ranks in CASES.items():
        with tempfile.TemporaryDirectory() as temporary:
            recorded[strategy] = losses(Path(temporary), ranks)
    golden_file().write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{golden_file()}\n")
