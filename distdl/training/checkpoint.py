"""Checkpoints: the complete state of a training, written by a thread, published atomically and verified when read.

    checkpoints/step-00001200/   state.pt        tensors, numbers, strings: read with weights_only, nothing is unpickled
                                 shard-R.pt ...  state that only rank R has, if the strategy shards it
                                 manifest.json   position, metric, and the SHA-256 of each file; written last

A checkpoint is written into a hidden folder, which is renamed when all files are on disk. Before it is removed, it is
renamed to a hidden name. A step that is saved again is published under a second name before the first is removed. A
kill at any moment therefore leaves every published checkpoint intact. Hidden folders left by a kill are removed when a
training next enters the run folder.
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
    """The checkpoints of one run folder. One rank writes; every rank may read.

    Args:
        keep: number of newest checkpoints that are kept, in addition to the best.
        kind: metric that selects the best, accuracy or loss; if empty, the metric of the newest checkpoint.
    """

    def __init__(self, folder: Path, *, keep: int = 2, kind: str = "") -> None:
        self.folder = folder
        self.keep = keep
        self.kind = kind
        self.failed: str | None = None
        """Error message of the last write; None if it succeeded."""
        self._thread: threading.Thread | None = None

    def begin(self, step: int) -> Path:
        """Create an empty hidden folder for the checkpoint of `step`; shards may be written into it before `save`."""
        self.wait()
        hidden = self.hidden(step)
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            hidden.mkdir(parents=True)
        except OSError as error:
            self._fail(step, error)
        return hidden

    def hidden(self, step: int) -> Path:
        """Path of the hidden folder into which the checkpoint of `step` is written."""
        return self.folder / f".step-{step:08d}"

    def save(self, hidden: Path, state: Mapping[str, Any], progress: Progress, metric: float | None) -> None:
        """Write `state` into the folder that `begin` returned and publish it, in a thread.

        The tensors of `state` are copied before this returns, so that training may continue.
        """
        if not hidden.exists():
            return
        snapshot, position = _on_host(state), asdict(progress)
        self._thread = threading.Thread(
            target=self._write, args=(hidden, snapshot, position, metric), name="checkpoint"
        )
        self._thread.start()

    def _write(self, hidden: Path, state: dict[str, Any], position: dict[str, Any], metric: float | None) -> None:
        try:
            write_atomic(hidden / STATE, lambda sink: _save(state, sink))
            seal(hidden, position, metric, self.kind or "accuracy")
            self._publish(hidden)
            self._prune()
            self.failed = None
        except Exception as error:  # in this thread no one else would report it
            self._fail(position["step"], error)
            shutil.rmtree(hidden, ignore_errors=True)

    def _publish(self, hidden: Path) -> None:
        name = hidden.name.removeprefix(".")
        same_step = [folder for folder in self.list() if step_of(folder) == int(name.removeprefix("step-"))]
        final, number = self.folder / name, 1
        while final.exists():
            number += 1
            final = self.folder / f"{name}-{number}"
        hidden.rename(final)
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
        """Wait until the last checkpoint is written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _prune(self) -> None:
        folders = self.list()
        for folder in set(folders) - set(folders[-self.keep :]) - {checkpoints.best(self.folder, self.kind)}:
            self._remove(folder)

    def list(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        return published(self.folder)
