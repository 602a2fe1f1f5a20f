"""The complete state of a training, on disk: all of it or none, verified when read, written off the training thread.

    checkpoints/step-00001200/   state.pt        tensors, numbers, strings: read with weights_only, nothing is unpickled
                                 shard-R.pt ...  what only rank R has, where the strategy shards its state
                                 manifest.json   position, metric, and the SHA-256 of each file; written last

A checkpoint is made in a hidden folder and renamed when everything in it has reached the disk.
"""

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch

from distdl.errors import UserError
from distdl.manifest import MANIFEST, STATE, damaged, read_manifest, seal
from distdl.rundir import CHECKPOINTS, sync_folder, write_atomic


@dataclass(kw_only=True)
class Progress:
    """How far a training has come. `samples` counts over all ranks, so that the world may change size on the way."""

    step: int = 0
    epoch: int = 0
    samples: int = 0
    """Of the epoch, seen so far by all ranks together."""
    elapsed_s: float = 0.0
    """Of training, over all the slices of a run."""
    images: int = 0
    """Seen since the run began."""
    resumes: int = 0


class Checkpoints:
    """The checkpoints of one run folder. One rank writes; every rank may read."""

    def __init__(self, folder: Path, *, keep: int = 2, lower_is_better: bool = False) -> None:
        self.folder = folder
        self.keep = keep
        self.sign = -1.0 if lower_is_better else 1.0
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
            seal(beside, position, metric)
            final = self.folder / beside.name.removeprefix(".")
            shutil.rmtree(final, ignore_errors=True)
            beside.rename(final)
            sync_folder(self.folder)
            self._prune()
            self.failed = None
        except Exception as error:  # on a thread of its own nobody else would hear of it
            self._fail(position["step"], error)
            shutil.rmtree(beside, ignore_errors=True)

    def _fail(self, step: int, error: Exception) -> None:
        why = getattr(error, "strerror", None) or error
        self.failed = f"the checkpoint of step {step} was not written to {self.folder}: {why}"

    def wait(self) -> None:
        """Until the last write is over."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _prune(self) -> None:
        found = self.list()
        for folder in set(found) - set(found[-self.keep :]) - {self.best()}:
            shutil.rmtree(folder)

    def list(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        return sorted(folder for folder in self.folder.glob("step-*") if (folder / MANIFEST).exists())

    def best(self) -> Path | None:
        """The checkpoint whose metric is best; the earliest of equals."""
        metrics = {folder: read_manifest(folder).get("metric") for folder in self.list()}
        scored = {folder: metric for folder, metric in metrics.items() if metric is not None}
        return max(scored, key=lambda folder: self.sign * scored[folder]) if scored else None

    def newest(self, warn: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that is whole; `warn` is told of each damaged one that is passed over."""
        for folder in reversed(self.list()):
            damage = damaged(folder)
            if damage is None:
                return folder
            warn(f"checkpoint {folder} is damaged ({damage}); the one before it is used")
        return None


def find(path: Path, warn: Callable[[str], None]) -> Path:
    """The checkpoint that `--resume PATH` means: a checkpoint, or the newest whole one of a run folder.

    Raises:
        UserError: if there is none, or the one named is damaged.
    """
    if (path / MANIFEST).exists():
        damage = damaged(path)
        if damage:
            raise UserError(f"checkpoint {path} is damaged: {damage}")
        return path
    folder = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    found = Checkpoints(folder).newest(warn)
    if found is None:
        raise UserError(f"{path} holds no whole checkpoint to resume from")
    return found


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Progress]:
    """State and position of a checkpoint. Nothing in the file is executed.

    Raises:
        UserError: if this process cannot see the folder, as on a host that does not share the run folder's file system.
    """
    try:
        state = torch.load(folder / STATE, map_location=device, weights_only=True)
        return state, Progress(**read_manifest(folder)["progress"])
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is not there: every host must share the run folder's file system") from None


def check_same(saved: Mapping[str, Any], running: Mapping[str, Any], folder: Path) -> None:
    """Raise a UserError if a checkpoint is of another network or another seed than the run that is to go on."""
    theirs, ours = saved["model"], running["model"]
    odd = sorted(set(theirs) ^ set(ours)) or sorted(name for name in ours if theirs[name].shape != ours[name].shape)
    if odd:
        raise UserError(f'checkpoint {folder} is of another network: "{odd[0]}" differs; give the same model and data')
    if saved["seed"] != running["seed"]:
        raise UserError(f"checkpoint {folder} was trained with --seed {saved['seed']}: give the same, or another --out")


def write_tensors(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values so that `read_tensors` reads them back without unpickling code."""
    host = _on_host(state)
    write_atomic(file, lambda sink: _save(host, sink))


def read_tensors(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `write_tensors` wrote."""
    return torch.load(file, map_location=device, weights_only=True)


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
