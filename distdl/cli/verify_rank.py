"""`python -m distdl.cli.verify_rank ...`: distdl.train with a log of the samples of each step."""

import os
from collections.abc import Sequence

from distdl.cli import train
from distdl.runtime.mpi_slurm import rank_of
from distdl.runtime.process import exit_process, run_command, with_torchelastic_record


def main(argv: Sequence[str] | None = None) -> int:
    """Train as distdl.train does. Returns its exit code."""
    from distdl.verify.samples import from_environment

    return run_command(lambda: train.main(argv, callbacks=(from_environment(),)), rank=rank_of(os.environ))


if __name__ == "__main__":
    exit_process(with_torchelastic_record(main)())
