"""A training of two ranks in which rank 1 raises an error or is killed at its fifth step; test_failures starts it."""

import os
import signal
import sys

import torch

from distdl.cli.recipe import from_command_line
from distdl.runtime.process import with_torchelastic_record
from distdl.strategies.base import make
from distdl.training.events import Callback
from distdl.training.session import train


class FailsAtStepFive(Callback):
    """A callback that fails."""

    def step_end(self, trainer, loss: torch.Tensor) -> None:
        if trainer.world.rank == 1 and trainer.progress.step == 5:
            (trainer.run.path / "failed").touch()
            if "die" in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("rank 1 cannot continue")


def main() -> int:
    config = from_command_line(["--progress", "none", "--out", sys.argv[1], "--epochs", "1000"], strategy="ddp")
    strategy = make(config)
    strategy.setup()
    train(config, strategy, callbacks=(FailsAtStepFive(),))
    return 0


if __name__ == "__main__":
    sys.exit(with_torchelastic_record(main)())
