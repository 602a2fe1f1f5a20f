"""A board of K slots that any number of processes on any number of hosts share through a file system.

    BOARD/board.json         the rule, which must be the same for all processes
          lineage.jsonl      the event log; the board's state is a fold over it (see event_log.py)
          slots/take-N/      published checkpoints in distdl's format: state.pt, manifest.json
          processes/NAME     locked as long as the process is alive
          lock               locked while the event log is read and appended to

A checkpoint is written to disk under another name and renamed before its event is appended. A kill at any moment leaves
a consistent board, and possibly files without an event, which the next process removes. A slot from which a process
trains is protected by its event "take" and the lock of the process, which the kernel releases when the process ends.

Locks use flock. Cluster file systems support it (NFS since version 4, Lustre mounted with `flock`). This module does
not import torch.
"""

import contextlib
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distdl.core import flock
from distdl.core.errors import UserError
from distdl.core.files import read_rows, sync_folder, write_json
from distdl.core.manifest import damaged, read_manifest, seal
from distdl.core.names import as_name
from distdl.core.paths import inside
from distdl.core.userfiles import read_json
from distdl.studies.leaderboard.event_log import BoardState, Lease, Lineage, replay
from distdl.studies.leaderboard.rules import Rule, SlotPlacement

RULE, LINEAGE, SLOTS, PROCESSES, LOCK = "board.json", "lineage.jsonl", "slots", "processes", "lock"


class Board:
    """A board, read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def slot(self, name: int) -> Path:
        """Folder of a slot's checkpoint."""
        return self.folder / SLOTS / f"take-{name:08d}"

    def rows(self) -> list[dict[str, Any]]:
        """Read all events so far."""
        return list(read_rows(self.folder / LINEAGE))

    def state(self) -> BoardState:
        """Compute the state of the board from its event log."""
        return replay(self.rows())

    def inconsistencies(self) -> list[str]:
        """List the files that contradict the event log: a missing or damaged slot, another score or epoch."""
        problems = []
        for slot in self.state().slots.values():
            folder = self.slot(slot.name)
            if why := damaged(folder):
                problems.append(f"{folder}: {why}")
                continue
            manifest = read_manifest(folder)
            if (manifest["metric"], manifest["progress"]["epoch"]) != (slot.score, slot.epoch):
                problems.append(f"{folder}: score or epoch of its manifest differ from the event log")
        return problems


class Session(Board):
    """Use of a board by one process, for one slice: it leases slots and submits the weights that it has trained.

    Args:
        folder: folder of the board, created if it does not exist.
        rule: rule of the board, the same for all processes.
        name: name of the process, without @.
        job: id of the Slurm job, for the totals of slices.
        waited_s: seconds in the queue before this slice.
    Raises:
        UserError: if the board was created with another rule, or the file system does not support locks.
    """

    def __init__(self, folder: Path, rule: Rule, *, name: str = "", job: str = "", waited_s: float = 0.0) -> None:
        super().__init__(folder)
        self.rule = rule
        for part in (SLOTS, PROCESSES):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.name = f"{name}@{as_name(platform.node())}-{os.getpid()}-{time.time_ns() % 10**9:09d}"
        self.lineage = Lineage(folder / LINEAGE)
        with self._locked():
            self._agree()
            self._alive = flock.acquire(folder / PROCESSES / self.name)
            self._append("begin", job=job, waited_s=waited_s)

    def _agree(self) -> None:
        file, agreed = self.folder / RULE, {"rule": self.rule.NAME, **asdict(self.rule)}
        agreed = json.loads(json.dumps(agreed))
        if not file.exists():
            write_json(file, agreed)
        elif (stored := read_json(file, "the rule of a board")) != agreed:
            different = next(key for key in [*agreed, *stored] if agreed.get(key) != stored.get(key))
            raise UserError(
                f"{self.folder} is a board with {different} = {stored.get(different)}, but this process has "
                f"{agreed.get(different)}: use the same settings or another folder"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BoardState]:
        """Context with the state of the board, which no other process can change meanwhile."""
        try:
            descriptor = flock.acquire(self.folder / LOCK)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be locked ({error.strerror}): put the board on a file system with locks (flock)"
            ) from None
        try:
            yield self.lineage.catch_up()
        finally:
            flock.release(descriptor)

    def _append(self, kind: str, *, at: float | None = None, process: str = "", **more: Any) -> None:
        self.lineage.append(kind, process or self.name, at=time.time() if at is None else at, **more)

    def refresh(self) -> BoardState:
        """End the leases of dead processes. Returns the state of the board."""
        with self._locked() as state:
            self._sweep(state)
            return state

    def lease(self) -> Lease:
        """Choose the slot to train from for an epoch. Its files stay until the lease has ended."""
        with self._locked() as state:
            self._sweep(state)
            choice = self.rule.choose(state)
            number = state.takes
            self._append("take", take=number, **asdict(choice))
            return state.open[number]

    def submit(
        self,
        lease: Lease,
        score: float,
        *,
        progress: Mapping[str, Any],
        write: Callable[[Path], None],
        epoch_s: float,
        settings: Mapping[str, Any],
    ) -> bool:
        """Publish the weights of a lease if the rule accepts them. Returns whether it did.

        Args:
            score: validation accuracy; larger is better, nan is dropped.
            progress: counters of the checkpoint: "step", "epoch" and more.
            write: writes the files of the checkpoint into a folder; called without holding the lock, and only if the
                rule would accept the weights at that time.
            epoch_s: seconds of the epoch and its evaluation.
            settings: learning rate and other settings of the epoch.
        """
        event = {
            "take": lease.number,
            "score": score if math.isfinite(score) else None,
            "epoch_s": epoch_s,
            "settings": dict(settings),
        }
        event |= {"step": progress["step"], "epoch": progress["epoch"]}
        with self._locked() as state:
            if self._placement(state, lease, score, event) is None:
                return False
        staging = self.folder / SLOTS / f".take-{lease.number}"
        staging.mkdir()  # not a link that another user has put there
        write(staging)
        seal(staging, progress, score)
        with self._locked() as state:
            placement = self._placement(state, lease, score, event)
            if placement is None:  # other processes have published better weights meanwhile
                shutil.rmtree(staging)
                return False
            staging.rename(self.slot(lease.number))
            sync_folder(self.folder / SLOTS)
            self._append("publish", **event, **asdict(placement))
            self._sweep(state)
            return True

    def _placement(
        self, state: BoardState, lease: Lease, score: float, event: Mapping[str, Any]
    ) -> SlotPlacement | None:
        if lease.number not in state.open:
            return None  # the lock was lost, for example with the connection, and another process has ended the lease
        placement = self.rule.place(state, lease, score)
        if placement is None:
            self._append("drop", **event)
        return placement

    def release(self, lease: Lease) -> None:
        """End a lease without weights."""
        with self._locked():
            self._append("cut", take=lease.number)

    def retire(self, slot: int, why: str) -> None:
        """Remove a slot whose files are damaged from the board."""
        with self._locked() as state:
            if slot in state.slots:
                self._append("retire", slot=slot, why=why)

    def leave(self, ended: str) -> None:
        """End this slice: completed, stopped or failed."""
        with self._locked() as state:
            for lease in [lease for lease in state.open.values() if lease.process == self.name]:
                self._append("cut", take=lease.number)
            if self.name in state.processes:
                self._append("end", ended=ended)
            self._sweep(state)
        flock.release(self._alive)
        (self.folder / PROCESSES / self.name).unlink(missing_ok=True)

    def _sweep(self, state: BoardState) -> None:
        """End the slices of dead processes, and remove unneeded checkpoints."""
        for name in [name for name in state.processes if name != self.name and self._dead(name)]:
            for lease in [lease for lease in state.open.values() if lease.process == name]:
                self._append("cut", take=lease.number, process=name)
            # A killed process wrote no "end" event: its last event is the best estimate of its end.
            self._append("end", process=name, at=state.processes[name].seen, ended="lost")
        for file in (self.folder / PROCESSES).iterdir():
            if file.name not in state.processes:
                file.unlink(missing_ok=True)
        needed = {self.slot(name) for name in state.slots}
        needed |= {self.slot(lease.slot) for lease in state.open.values() if lease.slot is not None}
        needed |= {self.folder / SLOTS / f".take-{number}" for number in state.open}
        for folder in (self.folder / SLOTS).iterdir():
            if folder not in needed:
                shutil.rmtree(folder)

    def _dead(self, name: str) -> bool:
        """Whether no process holds this lock."""
        file = inside(self.folder / PROCESSES, name, self.folder / LINEAGE)
        if not file.exists():
            return True
        descriptor = flock.try_acquire(file)
        if descriptor is None:
            return False
        flock.release(descriptor)
        return True
