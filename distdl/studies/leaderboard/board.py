"""A board of K slots that any number of processes on any number of hosts share, over a file system and nothing else.

    BOARD/board.json         the rule; all processes must agree on it
          lineage.jsonl      what happened; the board is what it adds up to (see lineage.py)
          slots/take-N/      published checkpoints, in distdl's own format: state.pt, manifest.json
          processes/NAME     held by a kernel's lock for as long as the process lives
          lock               held while the lineage is read and appended to

A checkpoint is written beside, on disk, and renamed before its line is appended: a kill at any moment leaves a board
that is whole, and files that nobody counts on, which the next process removes. The pin on a slot that somebody trains
from is the take in the lineage together with the lock of its process: the lock goes with the process, however it ends.

Locks are flock's. Every file system of a cluster has them (NFS since version 4, Lustre mounted with `flock`). Nothing
here imports torch.
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

from filelock import FileLock, Timeout

from distdl.core.errors import UserError
from distdl.core.files import read_rows, sync_folder, write_json
from distdl.core.manifest import damaged, read_manifest, seal
from distdl.studies.leaderboard.event_log import Lineage, State, Take, replay
from distdl.studies.leaderboard.rules import Rule

RULE, LINEAGE, SLOTS, PROCESSES, LOCK = "board.json", "lineage.jsonl", "slots", "processes", "lock"
POLL_S = 0.005


class Board:
    """A board as anybody may look at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def slot(self, name: int) -> Path:
        """Folder of a slot's checkpoint."""
        return self.folder / SLOTS / f"take-{name:08d}"

    def rows(self) -> list[dict[str, Any]]:
        """All events so far."""
        return list(read_rows(self.folder / LINEAGE))

    def state(self) -> State:
        """The board as its lineage has it."""
        return replay(self.rows())

    def complaints(self) -> list[str]:
        """What of the files is not as the lineage has it: a slot that is not there or torn, another score or epoch."""
        found = []
        for slot in self.state().slots.values():
            folder = self.slot(slot.name)
            if why := damaged(folder):
                found.append(f"{folder}: {why}")
                continue
            manifest = read_manifest(folder)
            if (manifest["metric"], manifest["progress"]["epoch"]) != (slot.score, slot.epoch):
                found.append(f"{folder}: its manifest has another score or epoch than the lineage")
        return found


class Seat(Board):
    """A process's place at a board: what takes slots, and offers what it made of them.

    Args:
        folder: made if it is not there.
        rule: the same for all processes.
        name: what the process is called, before an @.
        job: Slurm's id, for the account of slices.
        waited_s: in the queue, before this slice.
    Raises:
        UserError: the board was made for another rule, or the file system has no locks.
    """

    def __init__(self, folder: Path, rule: Rule, *, name: str = "", job: str = "", waited_s: float = 0.0) -> None:
        super().__init__(folder)
        self.rule = rule
        for part in (SLOTS, PROCESSES):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.name = f"{name}@{platform.node()}-{os.getpid()}-{time.time_ns() % 10**9:09d}"
        self.lineage = Lineage(folder / LINEAGE)
        self._lock = FileLock(folder / LOCK, poll_interval=POLL_S)
        self._alive = FileLock(folder / PROCESSES / self.name)
        try:
            with self._locked():
                self._agree()
                self._alive.acquire()
                self._append("begin", job=job, waited_s=waited_s)
        except NotImplementedError:
            raise UserError(
                f"the file system of {folder} has no locks (flock): put the board on one that has"
            ) from None

    def _agree(self) -> None:
        file, mine = self.folder / RULE, {"rule": type(self.rule).__name__, **asdict(self.rule)}
        mine = json.loads(json.dumps(mine))
        if not file.exists():
            write_json(file, mine)
        elif (theirs := json.loads(file.read_text(encoding="utf-8"))) != mine:
            different = next(key for key in [*mine, *theirs] if mine.get(key) != theirs.get(key))
            raise UserError(
                f"{self.folder} is a board with {different} = {theirs.get(different)}, and this process comes with "
                f"{mine.get(different)}: give the same settings, or another folder"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[State]:
        """The board, as it is, for this process alone."""
        with self._lock:
            yield self.lineage.catch_up()

    def _append(self, kind: str, *, at: float | None = None, process: str = "", **more: Any) -> None:
        self.lineage.append(kind, process or self.name, at=time.time() if at is None else at, **more)

    def look(self) -> State:
        """The board now, without what dead processes left open."""
        with self._locked() as state:
            self._sweep(state)
            return state

    def take(self) -> Take:
        """What to train from for an epoch. The slot's files stay until it is offered, given back, or this one dies."""
        with self._locked() as state:
            self._sweep(state)
            choice = self.rule.choose(state)
            number = state.takes
            self._append("take", take=number, **asdict(choice))
            return state.open[number]

    def offer(
        self,
        take: Take,
        score: float,
        *,
        progress: Mapping[str, Any],
        write: Callable[[Path], None],
        epoch_s: float,
        settings: Mapping[str, Any],
    ) -> bool:
        """Publish what a take came to, if the rule has a place for it. Returns whether it had.

        Args:
            score: the larger the better; nan is dropped.
            progress: the checkpoint's counters: "step", "epoch" and more.
            write: writes the checkpoint's files, to disk, into the folder that it is given; called only if there seems
                to be a place, and outside of the lock.
            epoch_s: seconds that the epoch and its scoring took.
            settings: what it was trained with.
        """
        told = {
            "take": take.number,
            "score": score if math.isfinite(score) else None,
            "epoch_s": epoch_s,
            "settings": dict(settings),
        }
        told |= {"step": progress["step"], "epoch": progress["epoch"]}
        with self._locked() as state:
            if not self._has_place(state, take, score, told):
                return False
        beside = self.folder / SLOTS / f".take-{take.number}"
        beside.mkdir(exist_ok=True)
        write(beside)
        seal(beside, progress, score)
        with self._locked() as state:
            if not self._has_place(state, take, score, told):  # others may have raised the bottom meanwhile
                shutil.rmtree(beside)
                return False
            place = self.rule.place(state, take, score)
            beside.rename(self.slot(take.number))
            sync_folder(self.folder / SLOTS)
            self._append("publish", **told, **asdict(place))
            self._sweep(state)
            return True

    def _has_place(self, state: State, take: Take, score: float, told: Mapping[str, Any]) -> bool:
        if take.number not in state.open:
            return False  # its lock was lost, as when its host was cut off: others have given the take up
        if self.rule.place(state, take, score) is None:
            self._append("drop", **told)
            return False
        return True

    def give_back(self, take: Take) -> None:
        """A take that this process does not finish."""
        with self._locked():
            self._append("cut", take=take.number)

    def retire(self, slot: int, why: str) -> None:
        """Take a slot whose files are damaged off the board."""
        with self._locked() as state:
            if slot in state.slots:
                self._append("retire", slot=slot, why=why)

    def leave(self, ended: str) -> None:
        """The end of this slice: completed, stopped or failed."""
        with self._locked() as state:
            for take in [take for take in state.open.values() if take.process == self.name]:
                self._append("cut", take=take.number)
            if self.name in state.processes:
                self._append("end", ended=ended)
            self._sweep(state)
        self._alive.release()
        (self.folder / PROCESSES / self.name).unlink(missing_ok=True)

    def _sweep(self, state: State) -> None:
        """Put in order what processes left that are no more, and remove checkpoints that nobody needs."""
        for name in [name for name in state.processes if name != self.name and self._dead(name)]:
            for take in [take for take in state.open.values() if take.process == name]:
                self._append("cut", take=take.number, process=name)
            # A killed process wrote no end. Its last sign of life is the best that is known of it.
            self._append("end", process=name, at=state.processes[name].seen, ended="lost")
        for file in (self.folder / PROCESSES).iterdir():
            if file.name not in state.processes:
                file.unlink(missing_ok=True)
        needed = {self.slot(name) for name in state.slots}
        needed |= {self.slot(take.slot) for take in state.open.values() if take.slot is not None}
        needed |= {self.folder / SLOTS / f".take-{number}" for number in state.open}
        for folder in (self.folder / SLOTS).iterdir():
            if folder not in needed:
                shutil.rmtree(folder)

    def _dead(self, name: str) -> bool:
        """Whether nothing holds a process's lock. Never asked of this one: to close the file would lose the lock."""
        file = self.folder / PROCESSES / name
        if not file.exists():
            return True
        try:
            with FileLock(file, blocking=False):
                return True
        except Timeout:
            return False
