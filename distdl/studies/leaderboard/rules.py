"""Which slot a process trains from next, and what becomes of its weights: pure functions of a board's state."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from distdl.studies.leaderboard.event_log import Slot, State, Take


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to train from. Its fields are those of the take that it becomes."""

    slot: int | None
    works_on: int | None = None
    tries: int = 0
    member: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where weights go: into an empty slot, or over `replaced`."""

    replaced: int | None = None
    keeps: bool = False
    """Whether the count of work goes over to the new slot."""


class Rule(Protocol):
    """A way of sharing a board."""

    slots: int

    def choose(self, state: State) -> Choice:
        """What the next take trains from."""

    def place(self, state: State, take: Take, score: float) -> Place | None:
        """What becomes of a take's weights; None: they are dropped."""


@dataclass(frozen=True, kw_only=True)
class Ratchet:
    """Document 000's: weights that beat any slot's go over the bottom one's; next is the slot least worked on.

    While there are empty slots, processes begin anew: as many independent beginnings as there are slots.
    """

    slots: int = 5

    def choose(self, state: State) -> Choice:
        beginning = sum(take.slot is None for take in state.open.values())
        if not state.slots or len(state.slots) + beginning < self.slots:
            return Choice(slot=None, tries=state.stillborn)
        least = min(state.slots.values(), key=lambda slot: (slot.worked, -slot.score, slot.name))
        return Choice(slot=least.name, works_on=least.name, tries=least.worked)

    def place(self, state: State, take: Take, score: float) -> Place | None:
        if not math.isfinite(score):
            return None
        if len(state.slots) < self.slots:
            return Place()
        bottom = min(state.slots.values(), key=lambda slot: (slot.score, slot.name))
        return Place(replaced=bottom.name) if score > bottom.score else None


@dataclass(frozen=True, kw_only=True)
class Population:
    """Population-based training (Jaderberg et al. 2017, arXiv:1711.09846), asynchronous, truncation selection.

    Each slot is a member. One among the worst takes over the weights and settings of one among the best (exploit) and
    changes the learning rate (explore); the others go on with their own. What a member trained replaces it, be it
    better or worse.
    """

    slots: int = 5
    beginnings: tuple[Mapping[str, Any], ...] = ({"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},)
    """Settings that the members begin with, in turn."""
    truncation: float = 0.2
    """Share of the members that count as the worst, and as the best."""
    factors: tuple[float, ...] = (0.8, 1.2)
    """By one of which the learning rate is changed."""
    seed: int = 0

    def choose(self, state: State) -> Choice:
        members = {slot.member: slot for slot in state.slots.values()}
        busy = {take.member for take in state.open.values()}
        unborn = [member for member in range(self.slots) if member not in members]
        waiting = [member for member in unborn if member not in busy]
        if waiting or not members:
            member = (waiting or unborn)[0]
            settings = self.beginnings[(member + state.stillborn) % len(self.beginnings)]
            return Choice(slot=None, member=member, settings=settings)
        free = [slot for member, slot in members.items() if member not in busy] or list(members.values())
        own = min(free, key=lambda slot: (slot.worked, slot.member))
        parent, settings = self._exploit(list(members.values()), own, state.takes)
        return Choice(slot=parent, works_on=own.name, tries=own.worked, member=own.member, settings=settings)

    def _exploit(self, members: list[Slot], own: Slot, number: int) -> tuple[int, Mapping[str, Any]]:
        ranked = sorted(members, key=lambda slot: (slot.score, -slot.name))
        few = max(int(len(ranked) * self.truncation), 1)
        if len(ranked) < max(self.slots, 2) or own not in ranked[:few]:
            return own.name, own.settings
        dice = random.Random(f"{self.seed} {number}")
        model = dice.choice(ranked[-few:])
        return model.name, {**model.settings, "lr": model.settings["lr"] * dice.choice(self.factors)}

    def place(self, state: State, take: Take, score: float) -> Place | None:
        current = next((slot.name for slot in state.slots.values() if slot.member == take.member), None)
        if current != take.works_on or not math.isfinite(score):
            return None  # another process has brought this member further meanwhile
        return Place(replaced=current, keeps=True)
