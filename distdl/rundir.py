"""The run folder: one training's configuration, measurements, checkpoints and result. Rank 0 writes it; all may read.

    config.toml  environment.json  metrics.jsonl  telemetry.jsonl  checkpoints/  result.json  report.html

Whole files are written beside and renamed, so that a reader never sees half of one; .jsonl files are appended a line
at a time, and each line has `time_s, step, epoch, kind`.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import tomli_w

from distdl import cores
from distdl.config import Config
from distdl.errors import UserError
from distdl.resolve import as_table

CONFIG, ENVIRONMENT, METRICS, TELEMETRY, RESULT = (
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "telemetry.jsonl",
    "result.json",
)
CHECKPOINTS = "checkpoints"


def write_atomic(file: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Call `write` with a file beside `file`, bring it to disk, and rename it: all of it is there, or none."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as sink:
            write(sink)
            sink.flush()
            os.fsync(sink.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries (a rename in it) to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(file: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(value, indent=2, default=str) + "\n"
    write_atomic(file, lambda sink: sink.write(text.encode()))


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl file; a last line that a kill cut short is left out."""
    if not file.exists():
        return
    with file.open(encoding="utf-8") as source:
        for line in source:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def default_path(name: str) -> Path:
    """runs/NAME-TIME, with a number where two start in the same second."""
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


class RunDir:
    """A run folder open for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, IO[str]] = {}

    @classmethod
    def create(cls, path: Path, config: Config, *, strategy: str, resume: bool) -> "RunDir":
        """Make the folder and write what is known at the start.

        Raises:
            UserError: if it holds a run already and `resume` is false, or cannot be written.
        """
        if not resume and (path / CONFIG).exists():
            raise UserError(f"{path} holds a run already: go on with it by --resume auto, or give another --out")
        try:
            (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            write_atomic(path / CONFIG, lambda sink: tomli_w.dump(as_table(config, strategy), sink))
            write_json(path / ENVIRONMENT, environment())
        except OSError as error:
            raise UserError(f"the run folder {path} cannot be written: {error.strerror or error}") from None
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def forget_after(self, step: int) -> None:
        """Drop rows of steps after `step`: those that a resumed run will write again."""
        for file in (self.path / METRICS, *self.path.glob("telemetry*.jsonl")):
            if file.exists():
                kept = [json.dumps(row) + "\n" for row in read_rows(file) if row["step"] <= step]
                write_atomic(file, lambda sink, kept=kept: sink.writelines(line.encode() for line in kept))

    def metrics(self, row: dict[str, Any]) -> None:
        """Append a row of training or evaluation."""
        self._append(METRICS, row)

    def telemetry(self, row: dict[str, Any]) -> None:
        """Append a sample of the devices or of the host. Safe beside `metrics` on another thread."""
        self._append(TELEMETRY, row)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if name not in self._files:
            self._files[name] = (self.path / name).open("a", encoding="utf-8")
        self._files[name].write(json.dumps(row) + "\n")
        self._files[name].flush()

    def result(self, value: dict[str, Any]) -> None:
        """Write result.json: what a study needs."""
        write_json(self.path / RESULT, value)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


def environment() -> dict[str, Any]:
    """Machine and versions, as environment.json keeps them."""
    import psutil
    import torch

    packages = ("distdl", "torch", "torchvision", "numpy", "horovod", "deepspeed", "nvidia-dali-cuda130")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "cores": cores.cores(),
        "cores_busy_at_start": round(cores.busy_at_start(), 2),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
        "job": {key: value for key, value in os.environ.items() if key.startswith(("SLURM_JOB", "TORCHELASTIC_R"))},
    }
