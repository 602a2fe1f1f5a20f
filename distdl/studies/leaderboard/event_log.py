"""Event log of a board: one JSON line per event, append-only. The state of the board is a fold over the events.

    begin    a process begins a slice of its work            end      the slice ends (`ended`; "lost": it was killed)
    take     the process leases a slot (none: it starts from initial weights) to train an epoch
    publish  the epoch's weights become a slot and replace `replaced`
    drop     the weights were not good enough                cut      the process ended before its epoch did
    retire   the files of a slot were found damaged

An event exists once its complete line is on disk: a line that a kill left incomplete is removed before the next event
is appended.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distdl.core.config import Count, Finite, Rate, Seconds
from distdl.core.errors import UserError, reading
from distdl.core.opening import open_to_write
from distdl.core.regular import lines_of, open_regular
from distdl.core.validation import check
from distdl.launchers.ledger import Slice

EventRow = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A published checkpoint on the board."""

    name: int
    """Number of the lease that created it."""
    parent: int | None
    """The slot that it was trained from; None if it started from initial weights."""
    score: float
    epoch: int
    """Number of epochs for which its weights were trained, from its checkpoint."""
    lease_count: int
    """Number of leases that trained from it; in a population, from all weights of its member."""
    member: int
    """Number of the population's member; 0 if the worst slot is replaced."""
    settings: Mapping[str, Any]
    """Learning rate and other settings of the epoch that created it."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One epoch of training that a process has started."""

    number: int
    process: str
    slot: int | None
    """The slot to continue from; None starts from initial weights."""
    works_on: int | None
    """The slot whose count of leases includes this one."""
    tries: int
    """Number of earlier leases of that slot."""
    member: int
    settings: Mapping[str, Any]
    """Settings from the rule of a population; if empty, the epoch counter determines the training profile."""


@dataclass(kw_only=True)
class Process:
    """A running slice of a process."""

    began: float
    seen: float
    """Unix time of its last event."""
    job: str
    waited_s: float
    epochs: int = 0


@dataclass(kw_only=True)
class BoardState:
    """State of a board after a number of events."""

    first: float | None = None
    """Unix time of the first event."""
    takes: int = 0
    """Number of leases so far, and the number of the next one."""
    slots: dict[int, Slot] = field(default_factory=dict)
    open: dict[int, Lease] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    """Ended slices of all processes."""
    epochs: int = 0
    """Completed epochs, published or dropped."""
    published: int = 0
    failed_starts: int = 0
    """Number of dropped first epochs, whose loss was not finite."""
    cut: int = 0

    def compute_s(self, now: float) -> float:
        """Seconds for which processes have held a device, over all slices; running slices count until `now` (Unix)."""
        running = sum(max(now - process.began, 0.0) for process in self.processes.values())
        return sum(ended_slice.compute_s for ended_slice in self.slices) + running

    @property
    def best(self) -> Slot | None:
        return max(self.slots.values(), key=lambda slot: (slot.score, -slot.name), default=None)


@dataclass(frozen=True, kw_only=True)
class _Event:
    process: str
    at: Rate
    """Unix time."""


@dataclass(frozen=True, kw_only=True)
class _Begin(_Event):
    job: str
    waited_s: Seconds


@dataclass(frozen=True, kw_only=True)
class _End(_Event):
    ended: str


@dataclass(frozen=True, kw_only=True)
class _Take(_Event):
    take: Count
    slot: Count | None
    works_on: Count | None
    tries: Count
    member: Count
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _OfTake(_Event):
    take: Count


@dataclass(frozen=True, kw_only=True)
class _Publish(_OfTake):
    score: Finite
    epoch: Count
    replaced: Count | None
    keeps: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Retire(_Event):
    slot: Count


_EVENTS: dict[str, type[_Event]] = {
    "begin": _Begin,
    "end": _End,
    "take": _Take,
    "publish": _Publish,
    "drop": _OfTake,
    "cut": _OfTake,
    "retire": _Retire,
}
"""Fields of an event, by its kind."""


def replay(rows: Iterable[EventRow]) -> BoardState:
    """Compute the state of a board from all its events."""
    state = BoardState()
    for row in rows:
        apply(state, row)
    return state


def apply(state: BoardState, row: EventRow) -> None:
    """Update `state` by one event.

    Raises:
        UserError, KeyError, TypeError: the row is not an event, or does not fit the events before it.
    """
    check(_EVENTS[row["kind"]], row, strict=True)
    kind, process = row["kind"], row["process"]
    state.first = row["at"] if state.first is None else state.first
    if kind == "begin":
        state.processes[process] = Process(began=row["at"], seen=row["at"], job=row["job"], waited_s=row["waited_s"])
        return
    if kind == "end":
        _end(state, state.processes.pop(process), row)
        return
    if kind == "take":
        keys = ("slot", "works_on", "tries", "member", "settings")
        state.takes = row["take"] + 1
        state.open[row["take"]] = Lease(number=row["take"], process=process, **{key: row[key] for key in keys})
        _work(state, row["works_on"], 1)
    elif kind == "cut":
        _work(state, state.open.pop(row["take"]).works_on, -1)
        state.cut += 1
        return  # another process may have written this event, so it does not prove that this process is alive
    elif kind == "retire":
        state.slots.pop(row["slot"], None)
    else:
        lease = state.open.pop(row["take"])
        state.epochs += 1
        state.processes[process].epochs += 1
        state.failed_starts += kind == "drop" and lease.slot is None
        if kind == "publish":
            state.published += 1
            old = state.slots.pop(row["replaced"], None)
            state.slots[lease.number] = Slot(
                name=lease.number,
                parent=lease.slot,
                score=row["score"],
                epoch=row["epoch"],
                lease_count=old.lease_count if old and row["keeps"] else 0,
                member=lease.member,
                settings=row["settings"],
            )
    if process in state.processes:
        state.processes[process].seen = row["at"]


def _work(state: BoardState, slot: int | None, by: int) -> None:
    if slot in state.slots:
        old = state.slots[slot]
        state.slots[slot] = replace(old, lease_count=old.lease_count + by)


def _end(state: BoardState, process: Process, row: EventRow) -> None:
    state.slices.append(
        Slice(
            job=process.job,
            waited_s=process.waited_s,
            compute_s=max(row["at"] - process.began, 0.0),
            first_step=0,
            last_step=process.epochs,
            ended=row["ended"],
        )
    )


class Lineage:
    """The event log, and the state after its events. Only the holder of the board's lock may append."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state = BoardState()
        self._offset = self._lines = 0

    def catch_up(self) -> BoardState:
        """Apply the events that other processes have appended. Returns the state.

        Raises:
            UserError: naming a line that is not a valid event.
        """
        if not self.file.exists():
            return self.state
        with reading(self.file), open_regular(self.file) as source:
            source.seek(self._offset)
            for line in lines_of(source):
                if not line.endswith(b"\n"):
                    break
                self._lines += 1
                try:
                    apply(self.state, json.loads(line))
                except (UserError, ValueError, KeyError, TypeError, RecursionError):
                    raise UserError(
                        f"{self.file}: line {self._lines} is not a valid event after the lines before it, which are "
                        "valid: delete this line and those after it"
                    ) from None
                self._offset += len(line)
        return self.state

    def append(self, kind: str, process: str, *, at: float, step: int = 0, epoch: int = 0, **more: Any) -> None:
        """Append an event; it is on disk when this returns. Call `catch_up` first, while holding the same lock."""
        first = at if self.state.first is None else self.state.first
        position = {"time_s": round(at - first, 3), "step": step, "epoch": epoch, "kind": kind}
        row = {**position, "at": at, "process": process, **more}
        line = json.dumps(row).encode() + b"\n"
        descriptor = open_to_write(self.file, os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(descriptor, self._offset)  # removes a line that a kill left incomplete
            os.pwrite(descriptor, line, self._offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._offset += len(line)
        self._lines += 1
        apply(self.state, json.loads(line))
