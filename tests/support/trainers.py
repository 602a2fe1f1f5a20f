"""Trainers of one process, without a command line and without other ranks."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from distdl.core.config import Config
from distdl.core.rundir import RunDir
from distdl.data.dataset import DataSet
from distdl.strategies.single import Single
from distdl.training.events import Callback
from distdl.training.trainer import Trainer


@contextlib.contextmanager
def trainers(run: Path) -> Iterator[Callable[..., Trainer]]:
    """Build trainers with the run folder `run`, and close them in reverse order, which restores signal handlers."""
    built: list[Trainer] = []

    def build(config: Config, dataset: DataSet, callbacks: Iterable[Callback] = ()) -> Trainer:
        strategy = Single(config)
        strategy.setup()
        built.append(Trainer(config, strategy, dataset, RunDir(run), callbacks))
        return built[-1]

    yield build
    for trainer in reversed(built):
        trainer.close()
        trainer.run.close()
        trainer.stop.close()
