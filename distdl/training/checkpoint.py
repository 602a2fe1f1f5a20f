"""The complete state of a training, on disk: all of it or none, verified when read, written off the training thread.

    checkpoints/step-00001200/   state.pt        tensors, numbers, strings: read with weights_only, nothing is unpickled
                                 shard-R.pt ...  what only rank R has, where the strategy shards its state
                                 manifest.json   position, metric, and the SHA-256 of each file; written last

A checkpoint is made in a hidden folder and renamed when everything in it has reached the disk; it is removed by a
rename to a hidden name first. A step that is saved again is published under a second name before the first is removed,
so that a kill at any moment leaves every published checkpoint whole. Hidden folders that a kill leaves are removed when
a training enters the run folder.
"""

import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distdl.core import checkpoints
from distdl.core.errors import reason
from distdl.core.files import sync_folder, write_atomic
from distdl.core.manifest import STATE, Progress, published, seal, step_of
from distdl.runtime.tensors import _on_host, _save


class Checkpoints:
    """The checkpoints of one run folder. One rank writes; every rank may read."""

    def __init__(self, folder: Path, *, keep: int = 2, kind: str = "") -> None:
        """`kind`: what selects the best, accuracy or loss; without it, what the newest checkpoint was selected by."""
        self.folder = folder
        self.keep = keep
        self.kind = kind
        self.failed: str | None = None
        """Why the last write failed, until one succeeds."""
        self._thread: threading.Thread | None = None

    def begin(self, step: int) -> Path:
        """An empty hidden folder for the checkpoint of `step`; shards may be written into it before `save`."""
        self.wait()
        beside = self.hidden(step)
        shutil.rmtree(beside, ignore_errors=True)
        try:
            beside.mkdir(parents=True)
        except OSError as error:
            self._fail(step, error)
        return beside

    def hidden(self, step: int) -> Path:
        """Where the checkpoint of `step` is made."""
        return self.folder / f".step-{step:08d}"

    def save(self, beside: Path, state: Mapping[str, Any], progress: Progress, metric: float | None) -> None:
        """Write `state` into the folder that `begin` gave and publish it, on a thread of its own.

        The tensors of `state` are copied before this returns, so that training may go on.
        """
        if not beside.exists():
            return
        snapshot, position = _on_host(state), asdict(progress)
        self._thread = threading.Thread(
            target=self._write, args=(beside, snapshot, position, metric), name="checkpoint"
        )
        self._thread.start()

    def _write(self, beside: Path, state: dict[str, Any], position: dict[str, Any], metric: float | None) -> None:
        try:
            write_atomic(beside / STATE, lambda sink: _save(state, sink))
            seal(beside, position, metric, self.kind or "accuracy")
            self._publish(beside)
            self._prune()
            self.failed = None
        except Exception as error:  # on a thread of its own nobody else would hear of it
            self._fail(position["step"], error)
            shutil.rmtree(beside, ignore_errors=True)

    def _publish(self, beside: Path) -> None:
        name = beside.name.removeprefix(".")
        same_step = [folder for folder in self.list() if step_of(folder) == int(name.removeprefix("step-"))]
        final, number = self.folder / name, 1
        while final.exists():
            number += 1
            final = self.folder / f"{name}-{number}"
        beside.rename(final)
        sync_folder(self.folder)
        for folder in same_step:
            self._remove(folder)

    def _remove(self, folder: Path) -> None:
        hidden = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _fail(self, step: int, error: Exception) -> None:
        self.failed = f"the checkpoint of step {step} was not written to {self.folder}: {reason(error)}"

    def wait(self) -> None:
        """Until the last write is over."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _prune(self) -> None:
        found = self.list()
        for folder in set(found) - set(found[-self.keep :]) - {checkpoints.best(self.folder, self.kind)}:
            self._remove(folder)

    def list(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        return published(self.folder)
