"""The run folder: configuration, measurements, checkpoints and result of a training. Rank 0 writes it.

    config.toml  environment.json  metrics.jsonl  telemetry.jsonl  checkpoints/  result.json  report.html

A training enters the folder when everything else has been validated (`RunDir.enter`): a start that fails earlier leaves
it unchanged. Files are written atomically; .jsonl files grow by whole lines (`distdl.core.files`).
"""

import contextlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import tomli_w

from distdl.core import runlock
from distdl.core.config import Config
from distdl.core.errors import UserError, reason
from distdl.core.files import TEMPORARY, append_rows, as_json, is_row, parse_row, write_all, write_json
from distdl.core.manifest import published, step_of
from distdl.core.names import as_name
from distdl.core.opening import check_folder, check_regular
from distdl.core.profiles import as_table
from distdl.core.regular import lines_of, open_regular, read_regular
from distdl.core.result import current_result, is_unfinished
from distdl.core.run_files import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    METRICS,
    RESULT,
    TELEMETRY,
    holds_run,
    in_use,
    version,
)

REPLACED = "replaced-"
"""Prefix of checkpoints that a resume from an earlier checkpoint has renamed."""


class RunDir:
    """A run folder. Nothing is written to it before `enter`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.legs: list[dict[str, Any]] = []
        """One entry per start of the training: time, host, first and last step, changed fields."""
        self._files: dict[str, IO[str]] = {}
        self._created: list[Path] = []

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def enter(
        self,
        config: Config,
        *,
        strategy: str,
        environment: Mapping[str, Any] | None = None,
        running: Mapping[str, Any] | None = None,
        leg: Mapping[str, Any] | None = None,
        step: int | None = 0,
        evaluated: bool = False,
        seen: tuple[Any, ...] | None = None,
    ) -> None:
        """Lock the folder and write its first files; if one cannot be written, nothing changes.

        Rows of measurements that the training will write again are removed, the former configuration and environment
        are kept as config.N.toml and environment.N.json, and the status in result.json becomes "running".

        Args:
            environment: machine and versions, for environment.json.
            running: values of result.json that are known while the training runs.
            leg: entry of this start in `legs` of result.json.
            step: first step of the training; 0 for a new one. None keeps all rows and checkpoints.
            evaluated: whether the evaluation at `step` is done.
            seen: `version` of the folder when the checkpoint was chosen.
        Raises:
            UserError: if another training runs in the folder, or has run since, or the folder cannot be written, or one
                of these files is a link or not a regular file, or checkpoints is a link of another user.
        """
        named = [self.path / name for name in (CONFIG, ENVIRONMENT, RESULT, METRICS, runlock.LOCK)]
        for file in (*named, *self._telemetry_files()):
            check_regular(file)  # a link to another user's file would be copied into config.1.toml
        check_folder(self.checkpoints)
        created = _make_folders(self.checkpoints)
        new_lock = not (self.path / runlock.LOCK).exists()
        try:
            if not runlock.hold(self.path):
                raise in_use(self.path, runlock.holder(self.path))
            if seen is not None and seen != version(self.path):
                raise UserError(f"another training has changed {self.path} since this one started: start it again")
            write_all(
                self._at_the_start(config, strategy, environment or {}, running or {}, leg or {}, step, evaluated)
            )
            self._clear(step)
            self._created = created
        except (OSError, UserError) as error:
            runlock.release(self.path)
            if new_lock and not isinstance(error, UserError):
                (self.path / runlock.LOCK).unlink(missing_ok=True)
            for folder in created:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if isinstance(error, UserError):
                raise
            file = f"{Path(error.filename).name}: " if error.filename else ""
            raise UserError(f"the run folder {self.path} cannot be written: {file}{reason(error)}") from None

    def _at_the_start(
        self,
        config: Config,
        strategy: str,
        environment: Mapping[str, Any],
        running: Mapping[str, Any],
        leg: Mapping[str, Any],
        step: int | None,
        evaluated: bool,
    ) -> dict[Path, Callable[[IO[bytes]], Any]]:
        start = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": platform.node(), "pid": os.getpid()}
        resumed = holds_run(self.path)
        former = self._former_legs() if resumed else []
        self.legs = [*former, {**start, "from_step": step, **leg}]
        contents = {
            RESULT: as_json({"status": "running", **start, **running, "legs": self.legs}),
            CONFIG: tomli_w.dumps(as_table(config, strategy)).encode(),
            ENVIRONMENT: as_json(environment),
        }
        if resumed:
            for name in (CONFIG, ENVIRONMENT):
                previous = self.path / name
                if previous.is_file() and (content := read_regular(previous)) != contents[name]:
                    contents[_free_name(self.path, name)] = content
        files: dict[Path, Callable[[IO[bytes]], Any]] = {
            self.path / name: lambda sink, content=content: sink.write(content) for name, content in contents.items()
        }
        for file in (self.path / METRICS, *self._telemetry_files()):
            if file.exists() and step is not None:
                lines = list(_rows_until(file, step, evaluated))
                files[file] = lambda sink, lines=lines: sink.writelines(lines)
        return files

    def _telemetry_files(self) -> list[Path]:
        return sorted(self.path.glob("telemetry*.jsonl"))

    def _former_legs(self) -> list[dict[str, Any]]:
        try:
            result = current_result(self.path)
        except UserError:
            return []
        legs = result.get("legs")
        legs = [leg for leg in legs if isinstance(leg, dict)] if isinstance(legs, list) else []
        if legs:
            status = "killed" if is_unfinished(result) else result.get("status")  # this process holds the lock
            legs[-1] = {**legs[-1], "status": status, "to_step": result.get("steps")}
        return legs

    def _clear(self, step: int | None) -> None:
        """Remove temporary files and claims of a killed process, and rename checkpoints after `step`."""
        for file in self.path.glob("telemetry-*.lock"):
            file.unlink(missing_ok=True)
        for file in self.path.glob(".*.tmp"):
            if TEMPORARY.fullmatch(file.name) and not file.is_dir():
                file.unlink(missing_ok=True)
        for folder in self.checkpoints.glob(".step-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in published(self.checkpoints):
            if step is not None and step_of(folder) > step:
                folder.rename(_free_place(folder.with_name(REPLACED + folder.name)))

    def metrics(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        self._append(METRICS, row)

    def telemetry(self, row: dict[str, Any], host: str = "") -> None:
        """Append a telemetry sample. Safe while another thread calls `metrics`.

        Args:
            host: name of the host, for its own file; empty: the file of the first host.
        """
        self._append(f"telemetry-{as_name(host)}.jsonl" if host else TELEMETRY, row)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if name not in self._files:
            self._files[name] = append_rows(self.path / name)
        self._files[name].write(json.dumps(row) + "\n")
        self._files[name].flush()

    def result(self, value: Mapping[str, Any]) -> None:
        """Write result.json."""
        if self.legs:
            self.legs[-1] = {**self.legs[-1], "status": value.get("status"), "to_step": value.get("steps")}
        write_json(self.path / RESULT, {**value, "legs": self.legs})

    def close(self) -> None:
        """Close the files and release the lock."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        runlock.release(self.path)

    def discard(self) -> None:
        """Close the folder, and remove it if `enter` has created it."""
        self.close()
        if self.path in self._created:
            shutil.rmtree(self.path, ignore_errors=True)
            for folder in self._created:
                with contextlib.suppress(OSError):  # removed already, or not empty
                    folder.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder with its parents. Returns the created folders, innermost first.

    Raises:
        UserError: if the folder cannot be created; then no folder is left.
    """
    missing = []
    for place in (folder, *folder.parents):
        if place.exists():
            break
        missing.append(place)
    made: list[Path] = []
    try:
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            made.insert(0, place)
    except OSError as error:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise UserError(f"the run folder {folder.parent} cannot be written: {reason(error)}") from None
    return made


def _free_name(folder: Path, name: str) -> str:
    """NAME.N.SUFFIX with the number after the largest one in use."""
    stem, _, suffix = name.rpartition(".")
    numbers = [
        int(match[1]) for file in folder.glob(f"{stem}.*.{suffix}") if (match := re.search(r"\.(\d+)\.", file.name))
    ]
    return f"{stem}.{max(numbers, default=0) + 1}.{suffix}"


def _free_place(path: Path) -> Path:
    number, place = 1, path
    while place.exists():
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def _rows_until(file: Path, step: int, evaluated: bool) -> Iterator[bytes]:
    """Lines of rows that a training from `step` does not write again, without damaged lines.

    Args:
        evaluated: whether the evaluation at `step` is done.
    """
    with open_regular(file) as source:
        for line in lines_of(source):
            row = parse_row(line) if line.endswith(b"\n") else None
            if not is_row(row) or row["step"] > step or row.get("best") is True or step == 0:
                continue
            repeated = row["step"] == step and row["kind"] in ("validation", "test", "forecast") and not evaluated
            if not repeated:
                yield line
