"""Saving of the complete state: when it is saved, and by which ranks."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from distdl.core.config import CheckpointConfig
from distdl.core.errors import Failure, reason
from distdl.core.manifest import Progress
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text, gather_text
from distdl.training.checkpoint import Checkpoints


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """When the complete state is saved."""

    config: CheckpointConfig

    def is_due_by_steps(self, progress: Progress) -> bool:
        """Whether checkpoint.every_steps requires a checkpoint at this step."""
        every = self.config.every_steps
        return bool(every) and progress.step % every == 0

    def is_due_after_epoch(self, progress: Progress) -> bool:
        """Whether a checkpoint is due after the epoch that has just ended."""
        every = self.config.every_epochs
        return self.is_due_by_steps(progress) or (bool(every) and progress.epoch % every == 0)


class Saver:
    """Saves checkpoints: rank 0 saves the replicated state, every rank saves its shards.

    A failed write causes a warning, and training continues; `require_written` raises it at the end.
    """

    def __init__(self, strategy: Strategy, checkpoints: Checkpoints, warn: Callable[[str], None]) -> None:
        self._strategy, self._checkpoints, self._warn = strategy, checkpoints, warn
        self._reported: str | None = None

    def save(self, state: Callable[[], Mapping[str, Any]], progress: Progress, metric: float | None) -> None:
        """Copy the state; a thread writes it. Called on every rank."""
        is_writer = self._strategy.world.rank == 0
        self._checkpoints.wait()
        self._report_failure()  # of the previous checkpoint
        folder = self._checkpoints.begin(progress.step) if is_writer else None
        self._report_failure()
        complete = not self._strategy.sharded or self._save_shards(progress.step)
        if folder is not None and complete:
            self._checkpoints.save(folder, state(), progress, metric)

    def _save_shards(self, step: int) -> bool:
        """Write every rank's shards into the folder that rank 0 has created. Returns whether all ranks succeeded.

        If one rank fails, all ranks drop this checkpoint, and training continues.
        """
        folder, problem = self._checkpoints.hidden(step), ""
        is_writer = self._strategy.world.rank == 0
        if not self._all_ranks(not is_writer or folder.is_dir()):
            return False  # rank 0 has already reported the reason
        try:
            self._strategy.save_shards(folder)
        except (OSError, Failure) as error:
            text = str(error) if isinstance(error, Failure) else reason(error)
            problem = f"rank {self._strategy.world.rank}: {text}"
        if self._all_ranks(not problem):
            return True
        first = next(filter(None, gather_text(self._strategy, problem)))
        if is_writer:
            shutil.rmtree(folder, ignore_errors=True)
            self._checkpoints.failed = f"the checkpoint of step {step} was not written to {folder.parent}: {first}"
            self._report_failure()
        return False

    def _report_failure(self) -> None:
        """Show the error of the last write, once."""
        failed = self._checkpoints.failed
        if failed and failed != self._reported:
            self._warn(failed)
        self._reported = failed

    def _all_ranks(self, ok: bool) -> bool:
        return bool(self._strategy.all_reduce(torch.tensor([int(ok)]), "min"))

    def require_written(self) -> None:
        """Wait for the last checkpoint.

        Raises:
            Failure: on every rank, if it could not be written: the steps since the previous checkpoint are not saved.
        """
        self._checkpoints.wait()
        if message := broadcast_text(self._strategy, self._checkpoints.failed or ""):
            raise Failure(message)
