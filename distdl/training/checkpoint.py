"""The complete state of a training, on disk: all of it or none, verified when read, written off the training thread.

    checkpoints/step-00001200/   state.pt        tensors, numbers, strings: read with weights_only, nothing is unpickled
                                 shard-R.pt ...  what only rank R has, where the strategy shards its state
                                 manifest.json   position, metric, and the SHA-256 of each file; written last

A checkpoint is made in a hidden folder and renamed when everything in it has reached the disk; it is removed by a
rename to a hidden name first. A step that is saved again is published under a second name before the first is removed,
so that a kill at any moment leaves every published checkpoint whole. Hidden folders that a kill leaves are removed when
a training enters the run folder.
"""

import contextlib
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch

from distdl.core.errors import UserError, reading, reason
from distdl.core.files import sync_folder, write_atomic
from distdl.core.manifest import MANIFEST, STATE, Progress, damaged, published, read_manifest, seal, step_of
from distdl.core.rundir import CHECKPOINTS


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
        for folder in set(found) - set(found[-self.keep :]) - {self.best()}:
            self._remove(folder)

    def list(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        return published(self.folder)

    def best(self) -> Path | None:
        """The checkpoint whose metric is best; the earliest of equals."""
        return next(self._by_metric(), None)

    def best_whole(self, warn: Callable[[str], None]) -> Path | None:
        """The best checkpoint that is whole; `warn` receives a message for each damaged one that is passed over."""
        return _first_whole(self._by_metric(), warn, "the next best")

    def _by_metric(self) -> Iterator[Path]:
        """Checkpoints with a metric of the kind, the best first; those whose manifest is damaged are left out."""
        manifests = {}
        for folder in self.list():
            with contextlib.suppress(UserError):
                manifests[folder] = read_manifest(folder)
        kinds = [manifest["metric_kind"] for manifest in manifests.values() if "metric_kind" in manifest]
        kind = self.kind or (kinds[-1] if kinds else "accuracy")
        sign = 1.0 if kind == "loss" else -1.0
        scored = [
            (sign * manifest["metric"], folder)
            for folder, manifest in manifests.items()
            if manifest["metric"] is not None and manifest.get("metric_kind", kind) == kind  # version 1 names no kind
        ]
        return (folder for _, folder in sorted(scored, key=lambda pair: pair[0]))

    def newest(self, warn: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that is whole; `warn` receives a message for each damaged one that is passed over."""
        return _first_whole(reversed(self.list()), warn, "the one before it")


def _first_whole(folders: Iterator[Path], warn: Callable[[str], None], instead: str) -> Path | None:
    for folder in folders:
        damage = damaged(folder)
        if damage is None:
            return folder
        warn(f"checkpoint {folder} is damaged ({damage}); {instead} is tried")
    return None


def find(path: Path, warn: Callable[[str], None]) -> Path:
    """The checkpoint that a path means: a checkpoint, or the newest whole one of a run folder.

    Raises:
        UserError: if there is none, or the one named is damaged.
    """
    if (path / MANIFEST).exists():
        damage = damaged(path)
        if damage:
            raise UserError(f"checkpoint {path} is damaged: {damage}")
        return path
    folder = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    newest = Checkpoints(folder).newest(warn)
    if newest is None:
        raise UserError(f"{path} holds no whole checkpoint" + ("" if path.exists() else ": it does not exist"))
    return newest


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Progress]:
    """State and position of a checkpoint. Nothing in the file is executed.

    Raises:
        UserError: if it is damaged, holds objects other than tensors and plain values, or this process cannot see the
            folder, as on a host that does not share the run folder's file system.
    """
    if not (folder / STATE).is_file():
        raise UserError(f"{folder / STATE} is not there: every host must share the run folder's file system")
    state = read_tensors(folder / STATE, device)
    return state, Progress.of(folder)


def network_state(state: Mapping[str, Any], folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights and buffers of a checkpoint's network by name, and those of their moving average (empty without one).

    Raises:
        UserError: if the state does not hold them.
    """
    ema = state.get("ema") or {}
    average = ema.get("average") if isinstance(ema, Mapping) else None
    for tensors in (state.get("model"), average if ema else {}):
        if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise UserError(f"{folder / STATE} is not the state of a training: it does not hold the network's tensors")
    return dict(state["model"]), dict(average or {})


def write_tensors(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values so that `read_tensors` reads them back without unpickling code."""
    host = _on_host(state)
    write_atomic(file, lambda sink: _save(host, sink))


def read_tensors(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `write_tensors` wrote.

    Raises:
        UserError: if the file is damaged, or holds anything else.
    """
    with reading(file, "a state"):
        try:
            state = torch.load(file, map_location=device, weights_only=True)
        except pickle.UnpicklingError:
            raise UserError(
                f"{file} is damaged, or holds objects other than tensors and plain values, which are not unpickled"
            ) from None
    if not isinstance(state, dict):
        raise UserError(f"{file} is not a state that distdl wrote")
    return state


def _save(state: Mapping[str, Any], sink: IO[bytes]) -> None:
    try:
        torch.save(state, sink)
    except RuntimeError as error:
        # Where the disk is full, torch's archive writer fails once more as it closes, and hides why.
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _on_host(value: Any) -> Any:
    """A copy that shares no memory with what training goes on to change."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_host(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_host(inner) for inner in value)
    return value
